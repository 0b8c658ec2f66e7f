"""The keys for the HMAC of SRHs: their configuration, their files, and the lists that can be signed."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from hawkwing.cli import main
from hawkwing.config import Config, check_config
from hawkwing.config_models import HmacKey
from hawkwing.errors import ConfigError
from hawkwing.hmac_keys import key_warnings, read_keys
from hawkwing.plan import Options, Plan, make_plan
from hawkwing.srh_hmac import MAX_SECRET, Key
from tests.unit.test_config_words import said_of

SERVICE = """\
services:
  web:
    domain_name: wb.example
    applications: [{port: 80, sid: [fcbb:bb00:1::2]}]
"""
SECRET = b"not for others"
ONE = "hmac: {key_id: 7, secret_file: hmac-7}\n"
SIDS = [f"fcbb:bb00:{number}::" for number in range(1, 16)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a secret; the command runs elsewhere."""
    monkeypatch.chdir("/")
    secret(tmp_path / "hmac-7", SECRET)
    return tmp_path


def secret(path: Path, content: bytes, mode: int = 0o600) -> None:
    path.write_bytes(content)
    path.chmod(mode)


def written(folder: Path, text: str, role: str = "client") -> Options:
    (folder / "hawk.yaml").write_text(text + SERVICE)
    return Options(role, [], folder / "hawk.yaml")


def problems(folder: Path, text: str) -> list[str]:
    """The same for both roles."""
    told = []
    for role in ("client", "server"):
        with pytest.raises(ConfigError) as caught:
            make_plan(written(folder, text, role))
        told.append([line.replace(f"{folder}/", "") for line in caught.value.problems])
    assert told[0] == told[1]
    return told[0]


@pytest.mark.parametrize("role", ["client", "server"])
def test_both_roles_have_the_keys_in_their_order(folder: Path, role: str) -> None:
    secret(folder / "other", b"other")
    text = "hmac:\n  - {key_id: 8, secret_file: other}\n  - {key_id: 7, secret_file: hmac-7}\n"
    made = make_plan(written(folder, text, role))
    assert made.hmac == (Key(8, b"other"), Key(7, SECRET))
    assert [one.key_id for one in made.config.hmac] == [8, 7]
    assert make_plan(written(folder, ONE, role)).hmac == (Key(7, SECRET),)
    assert make_plan(written(folder, "hmac: []\n", role)).hmac == ()
    assert Plan.of(Config()).hmac == ()


@pytest.mark.parametrize("role", ["client", "server"])
def test_each_plan_reads_the_files_again(folder: Path, role: str) -> None:
    options = written(folder, ONE, role)
    before = make_plan(options)
    assert make_plan(options).hmac == before.hmac
    secret(folder / "hmac-7", b"renewed\n")
    after = make_plan(options)
    assert after.hmac == (Key(7, b"renewed"),) and after.config == before.config
    (folder / "hmac-7").unlink()
    with pytest.raises(ConfigError, match=r"hmac-7 can't be read: No such file or directory"):
        make_plan(options)


def test_absolute_paths_and_links_to_the_configuration(folder: Path, tmp_path: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    secret(elsewhere / "key", b"x")
    text = f"hmac: {{key_id: 1, secret_file: {elsewhere / 'key'}}}\n"
    assert make_plan(written(folder, text)).hmac == (Key(1, b"x"),)
    (elsewhere / "hawk.yaml").write_text(ONE + SERVICE)
    (folder / "link.yaml").symlink_to("elsewhere/hawk.yaml")
    assert make_plan(Options("server", [], folder / "link.yaml")).hmac == (Key(7, SECRET),)


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (b"a", b"a"),
        (b"a\n", b"a"),
        (b"a\r\n", b"a"),
        (b"a\n\n", b"a\n"),
        (b"a\r\n\r\n", b"a\r\n"),
        (b"a\r", b"a\r"),
        (b"\na ", b"\na "),
        (b"\0\xff\x80", b"\0\xff\x80"),
        (b"x" * MAX_SECRET, b"x" * MAX_SECRET),
        (b"x" * MAX_SECRET + b"\r\n", b"x" * MAX_SECRET),
        (b"x" * (MAX_SECRET - 1) + b"\n\n", b"x" * (MAX_SECRET - 1) + b"\n"),
    ],
)
def test_a_secret_is_the_file_without_one_line_break(folder: Path, content: bytes, read: bytes) -> None:
    secret(folder / "hmac-7", content)
    assert make_plan(written(folder, ONE)).hmac == (Key(7, read),)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n"])
def test_an_empty_file(folder: Path, content: bytes) -> None:
    secret(folder / "hmac-7", content)
    assert problems(folder, ONE) == ["hawk.yaml:1: hmac[0].secret_file: hmac-7 is empty, a secret is needed"]


@pytest.mark.parametrize("more", [b"x", b"\n\n", b"\r\n\n", b"x\r\n", b"x" * 1000])
def test_a_secret_that_is_too_long(folder: Path, more: bytes) -> None:
    secret(folder / "hmac-7", b"x" * MAX_SECRET + more)
    assert problems(folder, ONE) == [
        "hawk.yaml:1: hmac[0].secret_file: hmac-7 is too long, a secret has at most 64 bytes"
    ]


BOTH = "hmac:\n  - key_id: 7\n    secret_file: hmac-7\n  - key_id: {}\n    secret_file: hmac-7\n"
NOT_A_FILE = "must be the name of a file that has the secret in it"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOTH.format(7), ["4: hmac[1].key_id: 7 is already the key_id of hmac[0]"]),
        (BOTH.format(0), ["4: hmac[1].key_id: 0 is not a key_id, use 1 to 4294967295"]),
        (BOTH.format(2**32), ["4: hmac[1].key_id: 4294967296 is not a key_id, use 1 to 4294967295"]),
        (BOTH.format("'7'"), ['4: hmac[1].key_id: "7" is text, write 7 without quotes']),
        ("hmac: {key_id: 7}\n", ["1: hmac[0].secret_file: is missing"]),
        ("hmac:\n  secret_file: hmac-7\n", ["1: hmac[0].key_id: is missing"]),
        ("hmac: {}\n", ["1: hmac[0].key_id: is missing", "1: hmac[0].secret_file: is missing"]),
        (
            "hmac:\n  key_id: 7\n  secret_file: none\n",
            ["3: hmac[0].secret_file: none can't be read: No such file or directory"],
        ),
        (
            'hmac: {key_id: 7, secret_file: "a\\0b"}\n',
            ["1: hmac[0].secret_file: 'a\\x00b' can't be read: its name has a null character"],
        ),
        ("hmac: {key_id: 7, secret_file: ''}\n", [f"1: hmac[0].secret_file: {NOT_A_FILE}"]),
        ("hmac: {key_id: 7, secret_file: [s3cr3t]}\n", [f"1: hmac[0].secret_file: {NOT_A_FILE}"]),
        (
            "hmac: {key_id: 7, secret_file: hmac-7, algorithm: sha256}\n",
            ["1: hmac[0].algorithm: is not a known key, use one of key_id, secret_file"],
        ),
        ("hmac: 7\n", ["1: hmac: must be a list, for example `- {key_id: 7, secret_file: hmac-7}`"]),
        ("hmac: [7]\n", ["1: hmac[0]: must be a mapping, with the keys key_id and secret_file"]),
        (
            f"hmac: [{', '.join(f'{{key_id: {n}, secret_file: hmac-7}}' for n in range(1, 10))}]\n",
            ["1: hmac: has 9 keys, at most 8 are possible"],
        ),
    ],
)  # fmt: skip
def test_mistakes(folder: Path, text: str, told: list[str]) -> None:
    assert problems(folder, text) == [f"hawk.yaml:{line}" for line in told]


def test_eight_keys_are_possible(folder: Path) -> None:
    entries = ", ".join(f"{{key_id: {n}, secret_file: hmac-7}}" for n in range(2**32 - 8, 2**32))
    assert len(make_plan(written(folder, f"hmac: [{entries}]\n")).hmac) == 8


@pytest.mark.parametrize("value", ["s3cr3t", "123456789"])
@pytest.mark.parametrize("key", ["key", "secret", "file", "secret_flie", "x"])
def test_a_secret_in_the_configuration_itself_is_not_shown(folder: Path, key: str, value: str) -> None:
    told = problems(folder, f"hmac: {{key_id: 7, {key}: {value}}}\n")
    meant = "use one of key_id, secret_file" if key == "x" else "did you mean secret_file?"
    assert told[0] == f"hawk.yaml:1: hmac[0].{key}: is not a known key, {meant}"
    assert value not in "".join(told)


def test_all_unusable_files_at_once(folder: Path) -> None:
    text = "hmac:\n  - {key_id: 1, secret_file: a}\n  - {key_id: 2, secret_file: .}\n"
    first, second = problems(folder, text)
    assert first == "hawk.yaml:2: hmac[0].secret_file: a can't be read: No such file or directory"
    assert second == f"hawk.yaml:3: hmac[1].secret_file: {folder} can't be read: Is a directory"
    # Between `check` and reading, a file may vanish.
    with pytest.raises(ConfigError) as caught:
        read_keys([HmacKey(key_id=1, secret_file=folder / "a"), HmacKey(key_id=2, secret_file=folder)])
    assert caught.value.problems == [
        f"hmac[0].secret_file: {folder}/a can't be read: No such file or directory",
        f"hmac[1].secret_file: {folder} can't be read: Is a directory",
    ]


def test_check_tells_of_the_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(folder, ONE).config_file
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr().out == (
        f"{file}: valid, 1 service with 1 application, packets are signed with key_id 7\n"
    )
    (folder / "hmac-7").unlink()
    assert main(["check", str(file)]) == 1
    assert f"{file}:1: hmac[0].secret_file: {folder}/hmac-7 can't be read" in capsys.readouterr().err


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("mode", [0o644, 0o602, 0o641, 0o640, 0o600, 0o400])
def test_files_that_all_users_can_use(folder: Path, role: str, mode: int) -> None:
    (folder / "hmac-7").chmod(mode)
    options = written(folder, "hmac:\n  key_id: 7\n  secret_file: hmac-7\n", role)
    warned = [
        f"{folder}/hawk.yaml:3: warning: hmac[0].secret_file: {folder}/hmac-7 is open to all users "
        f"(mode {mode:04o}), use 0640 or 0600"
    ]
    assert list(make_plan(options).warnings) == (warned if mode & 0o007 else [])
    assert options.config_file is not None
    assert check_config(options.config_file)[1] == (warned if mode & 0o007 else [])


def test_a_file_that_has_gone_is_no_warning(folder: Path) -> None:
    entry = HmacKey(key_id=1, secret_file=Path("gone"))
    assert list(key_warnings([entry], folder / "hawk.yaml")) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads all files")
def test_a_file_of_somebody_else(folder: Path) -> None:
    (folder / "hmac-7").chmod(0)
    assert problems(folder, ONE) == [
        "hawk.yaml:1: hmac[0].secret_file: hmac-7 can't be read: Permission denied"
    ]


def test_no_text_has_the_secret(folder: Path) -> None:
    made = make_plan(written(folder, ONE))
    assert "key_id=7" in repr(made) and SECRET.decode() not in f"{made!r} {made.hmac}"


def listed(count: int, more: str = "") -> str:
    """A configuration with so many SIDs in a list."""
    applications = f"[{{port: 80, sid: {SIDS[:count]}}}]"
    return f"{more}services: {{w: {{domain_name: w.example, applications: {applications}}}}}\n"


CSID = "csid: {block: 'fcbb:bb00::/32'}\n"
ENCAP = "mode: encap, decap_sid: 'fcbb:aa00::d6', port"
LIST = "services.w.applications[0].sid"


def test_so_many_sids_can_be_signed(folder: Path) -> None:
    assert said_of(folder, listed(15)) == said_of(folder, listed(12, ONE)) == []
    assert said_of(folder, listed(13, ONE)) == [f"2: {LIST}: has 13 SIDs, at most 12 SIDs fit with hmac"]


def test_packed_lists_count_as_in_packets(folder: Path) -> None:
    assert said_of(folder, listed(15, ONE + CSID)) == []
    assert said_of(folder, listed(15, ONE + CSID).replace("bb00:15", "bb01:15")) == []
    # Every second one is in the block: only the first two and the last two are packed.
    mixed = listed(15, ONE + CSID)
    for number in range(1, 15, 2):
        mixed = mixed.replace(f"fcbb:bb00:{number}::", f"fcbb:bb01:{number}::")
    mixed = mixed.replace("fcbb:bb01:1::", "fcbb:bb00:1::")
    assert said_of(folder, mixed) == [
        f"3: {LIST}: has 15 SIDs, packed 13 SIDs, at most 12 SIDs fit with hmac"
    ]


def test_lists_for_encapsulation_count_with_the_last_sid(folder: Path) -> None:
    assert said_of(folder, listed(11, ONE).replace("port", ENCAP)) == []
    assert said_of(folder, listed(12, ONE).replace("port", "mode: encap, port")) == []
    assert said_of(folder, listed(13).replace("port", ENCAP)) == []
    assert said_of(folder, listed(12, ONE).replace("port", ENCAP)) == [
        f"2: {LIST}: has 12 SIDs and decap_sid, at most 12 SIDs fit with hmac"
    ]


def test_each_of_several_paths(folder: Path) -> None:
    text = f"""{ONE}services:
  w:
    domain_name: w.example
    applications:
      - port: 80
        paths:
          - sid: {SIDS[:12]}
          - sid: {SIDS[:13]}
          - sid: {SIDS[:14]}
"""
    assert said_of(folder, text) == [
        f"{line}: services.w.applications[0].paths[{line - 8}].sid: "
        f"has {line + 4} SIDs, at most 12 SIDs fit with hmac"
        for line in (9, 10)
    ]


def test_blocks_of_the_command_line_hold_fewer_sids(folder: Path) -> None:
    file = folder / "hawk.yaml"
    file.write_text(listed(13, ONE + CSID))
    options = Options("client", [], file)
    assert make_plan(options).desired.lists()
    with pytest.raises(ConfigError) as caught:
        make_plan(replace(options, csid=(IPv6Network("fcaa::/16"),)))
    assert caught.value.problems == [f"{file}:3: {LIST}: has 13 SIDs, at most 12 SIDs fit with hmac"]
    server = replace(options, role="server", csid=(IPv6Network("fcaa::/16"),))
    assert make_plan(server).hmac == (Key(7, SECRET),)
