"""The PEM files that a configuration names are opened and parsed when it is read."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from hawkwing.config import Tls, check_config, load_config
from hawkwing.controller import credentials
from hawkwing.errors import ConfigError, ControllerError
from hawkwing.pem import Contents, folder_of, read_contents
from hawkwing.plan import Options, make_plan
from tests.certificates import make_certificate

TEXT = """hawkeye:
  enabled: true
  address: fcbb::5
  port: 5001
  tls:
    ca: {ca}
    certificate: {certificate}
    key: {key}
services:
  web:
    domain_name: wb.hawk.net
    applications: [{{port: 80, sid: [fcbb::1]}}]
"""
GOOD = {"ca": "ca.pem", "certificate": "client.pem", "key": "client.key"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder, "ca")
    make_certificate(folder, "client", signer="ca")
    make_certificate(folder, "locked", password="secret")
    (folder / "empty.pem").write_text("")
    return folder


def problems(folder: Path, **files: str) -> list[str]:
    file = folder / "hawk.yaml"
    file.write_text(TEXT.format(**GOOD | files))
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    return [one.replace(f"{folder}/", "") for one in caught.value.problems]


def test_right_files_are_accepted_wherever_the_command_runs(folder: Path) -> None:
    file = folder / "hawk.yaml"
    file.write_text(TEXT.format(**GOOD))
    config, warnings = check_config(file)
    assert warnings == []
    assert config.hawkeye.tls is not None
    credentials.read(config.hawkeye.tls.beside(folder))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"ca": "none.pem"}, "6: hawkeye.tls.ca: none.pem can't be read: No such file or directory"),
        ({"ca": "."}, "6: hawkeye.tls.ca: . can't be read: Is a directory"),
        ({"ca": "empty.pem"}, "6: hawkeye.tls.ca: empty.pem has no certificate in PEM form"),
        (
            {"certificate": "client.key"},
            "7: hawkeye.tls.certificate: client.key has no certificate in PEM form",
        ),
        ({"key": "client.pem"}, "8: hawkeye.tls.key: client.pem has no private key in PEM form"),
        ({"key": "ca.key"}, "8: hawkeye.tls.key: ca.key is not the key of client.pem"),
        (
            {"certificate": "locked.pem", "key": "locked.key"},
            "8: hawkeye.tls.key: locked.key is encrypted with a password, store the key without one",
        ),
    ],
)
def test_a_wrong_file_is_named(folder: Path, files: dict[str, str], said: str) -> None:
    found = problems(folder, **files)
    assert [one.replace(f"{folder} can't", ". can't") for one in found] == [f"hawk.yaml:{said}"]


def test_a_certificate_needs_its_key(folder: Path) -> None:
    assert problems(folder, key="") == [
        "hawk.yaml:8: hawkeye.tls.key: is missing, certificate requires key as well"
    ]


def test_all_wrong_files_at_once(folder: Path) -> None:
    assert len(problems(folder, ca="a", certificate="b", key="c")) == 3


def test_without_a_ca_the_others_are_looked_at_all_the_same(folder: Path) -> None:
    """The system's certificates are used then."""
    said = "hawk.yaml:8: hawkeye.tls.key: ca.key is not the key of client.pem"
    assert problems(folder, ca="", key="ca.key") == [said]
    said = "hawk.yaml:7: hawkeye.tls.certificate: none.pem can't be read: No such file or directory"
    assert problems(folder, ca="", certificate="none.pem") == [said]


def test_files_matter_only_where_a_controller_is_asked(folder: Path) -> None:
    file = folder / "hawk.yaml"
    file.write_text(TEXT.format(**GOOD | {"ca": "none.pem"}).replace("enabled: true", "enabled: false"))
    assert check_config(file)[1] == [
        f"{file}:6: warning: hawkeye.tls.ca: {folder}/none.pem can't be read: No such file or directory"
    ]
    file.write_text(TEXT.format(**GOOD | {"ca": "none.pem"}))
    assert load_config(file, require_services=False).hawkeye.enabled


def test_the_stream_reads_the_files_once_more(folder: Path) -> None:
    file = folder / "hawk.yaml"
    file.write_text(TEXT.format(**GOOD))
    tls = load_config(file).hawkeye.tls
    assert tls is not None
    with pytest.raises(ControllerError, match=r"hawkeye\.tls\.ca: .*gone/ca.pem can't be read: No such file"):
        credentials.read(tls.beside(folder / "gone"))


# --- renewed files


def contents(folder: Path) -> tuple[Tls, Contents]:
    file = folder / "hawk.yaml"
    file.write_text(TEXT.format(**GOOD))
    tls = load_config(file).hawkeye.tls
    assert tls is not None
    return tls.beside(folder), read_contents(tls.beside(folder))


@pytest.fixture
def renewable(folder: Path, tmp_path: Path) -> Path:
    """A folder of its own with the same files."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_renewed_files_are_used_at_the_next_connection(
    renewable: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    tls, before = contents(renewable)
    renewed = credentials.Renewed(tls, before)
    assert isinstance(renewed(), grpc.ChannelCredentials)
    assert renewed.contents == before and not caplog.messages
    make_certificate(renewable, "client", signer="ca")
    renewed()
    assert renewed.contents == read_contents(tls) != before
    assert caplog.messages == ["hawkeye.tls: the files have changed, using the new ones"]


def test_while_the_files_are_half_written_those_before_are_used(
    renewable: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls, before = contents(renewable)
    renewed = credentials.Renewed(tls, before)
    (renewable / "client.pem").write_text("-----BEGIN")
    for _ in range(3):
        assert isinstance(renewed(), grpc.ChannelCredentials)
        assert renewed.contents == before
    (message,) = caplog.messages
    assert message == (
        f"hawkeye.tls.certificate: {renewable}/client.pem has no certificate in PEM form; "
        "the previous credentials are still used"
    )
    make_certificate(renewable, "client", signer="ca")
    renewed()
    (renewable / "client.pem").write_text("-----BEGIN")
    renewed()
    assert caplog.messages == [message, message], "it was right in between"


def test_contents_count_and_not_names(renewable: Path) -> None:
    file = renewable / "hawk.yaml"
    file.write_text(TEXT.format(**GOOD))
    options = Options("client", [], file)
    first = make_plan(options)
    assert make_plan(options).pem == first.pem is not None
    make_certificate(renewable, "client", signer="ca")
    second = make_plan(options)
    assert second.config.hawkeye == first.config.hawkeye and second.pem != first.pem


def test_relative_paths_are_beside_the_link(folder: Path, tmp_path: Path) -> None:
    """As Kubernetes and others do it: the file is a link to its current version elsewhere."""
    for name in GOOD.values():
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "1").write_text(TEXT.format(**GOOD))
    link = tmp_path / "hawk.yaml"
    link.symlink_to("versions/1")
    tls = make_plan(Options("client", [], link)).config.hawkeye.tls
    assert tls is not None and tls.ca == tmp_path / "ca.pem"
    assert check_config(link)[1] == []


def test_relative_paths_of_standard_input_are_those_of_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert folder_of(Path("/dev/stdin")) == folder
