"""A kernel that refuses: one sentence, and the verifier's log in a file that the sentence names."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from hawkwing import doctor
from hawkwing.dataplane import bytecode, refusal
from hawkwing.dataplane.bytecode import Bytecode
from hawkwing.dataplane.loader import Capacities, load
from hawkwing.dataplane.trial import MOST_INSTRUCTIONS, try_all
from hawkwing.errors import DataplaneError
from tests.dataplane.bench import Namespace

RETURNS_NOTHING = b"\x95" + bytes(7)
"""exit, with nothing in r0: "R0 !read_ok"."""


@pytest.fixture
def refused(namespace: Namespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bytecode:
    """The client's programs, of which one can't be verified; temporary files go to `tmp_path`."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = bytecode.shipped("client")
    assert code is not None
    return replace(code, programs={**code.programs, "ingress_raw": RETURNS_NOTHING})


def test_the_log_is_in_a_file(refused: Bytecode) -> None:
    with pytest.raises(DataplaneError) as raised:
        load("client", refused, ["ingress_raw"], Capacities())
    match = re.fullmatch(
        r"this kernel \(\S+\) refuses the program ingress_raw of the client: R0 !read_ok; "
        r"please report it with the file (\S+\.log)",
        str(raised.value),
    )
    assert match
    assert "R0 !read_ok" in Path(match[1]).read_text()


@pytest.mark.parametrize(
    "rest",
    [
        "processed 1 insns (limit 1000000) max_states_per_insn 0\n",
        "verification time 22 usec\nstack depth 0\nprocessed 1 insns (limit 1000000)\n",
        "\nVerification failed: Register Type Safety: Unreadable register\n\n"
        "Suggestion:\n  Initialize R0.\n\n"
        "processed 1 insns (limit 1000000)\n",
        "",
    ],
)
def test_the_reason_is_the_verifiers_last_word(rest: str) -> None:
    """Followed by statistics, and since Linux 7.3 by advice."""
    assert refusal._last_word("0: R1=ctx() R10=fp0\n0: (95) exit\nR0 !read_ok\n" + rest) == "R0 !read_ok"


def test_an_old_kernel_is_named_instead(refused: Bytecode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusal, "kernel_version", lambda: (5, 10))
    with pytest.raises(DataplaneError, match=r"^this kernel is \S+: HawkWing needs Linux 5\.15 or newer$"):
        load("client", refused, ["ingress_raw"], Capacities())


def test_doctor_loads_the_real_programs(
    refused: Bytecode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.main() == 0
    assert "all 14 programs load (shipped bytecode" in capsys.readouterr().out
    monkeypatch.setattr(bytecode, "shipped", lambda role: refused if role == "client" else None)
    assert doctor.main() == 1
    assert re.search(r"^data plane +no +this kernel .* refuses", capsys.readouterr().out, re.MULTILINE)


def test_maps_that_do_not_fit(namespace: Namespace) -> None:
    code = bytecode.shipped("client")
    assert code is not None
    with pytest.raises(DataplaneError, match="no memory for maps of this size"):
        load("client", code, ["egress_ethernet"], Capacities(services=(1 << 31) + 1))


@pytest.mark.parametrize("role", bytecode.ROLES)
def test_little_to_verify(namespace: Namespace, role: str) -> None:
    """At most 100,000 instructions of each program."""
    code = bytecode.shipped(role)
    assert code is not None
    for tried in try_all(role, code):
        assert not tried.refused
        assert 50 < tried.verified <= MOST_INSTRUCTIONS, tried


@pytest.mark.parametrize("role", bytecode.ROLES)
def test_a_kernel_that_lets_nobody_read_its_memory(namespace: Namespace, role: str) -> None:
    """Where it is locked down, the programs do without."""
    code = bytecode.shipped(role)
    assert code is not None
    modest = {name: bytecode.without_kernel_reads(text) for name, text in code.programs.items()}
    assert modest["egress_ethernet"] != code.programs["egress_ethernet"]
    assert modest["sweep" if role == "server" else "ingress_xdp"] in code.programs.values()
    assert [one.refused for one in try_all(role, replace(code, programs=modest)) if one.refused] == []
