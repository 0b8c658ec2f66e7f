"""What the documents say is so: links lead somewhere, commands are understood, messages and reasons exist."""

from __future__ import annotations

import ast
import functools
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hawkwing.cli import parser
from hawkwing.dataplane.layout import limits, reasons
from hawkwing.dataplane.plane import DEFAULT_SR_DOMAIN
from hawkwing.sids import MAX_SIDS
from hawkwing.target import read_target

PROJECT = Path(__file__).parents[2]
GUIDE = PROJECT / "docs" / "troubleshooting.md"
DOCUMENTS = [*sorted((PROJECT / "docs").glob("*.md")), *sorted(PROJECT.glob("*.md"))]
SYMPTOMS = [
    "Nothing is steered",
    "A path loses packets",
    "Replies are lost",
    "Large packets are lost",
    "Not attached",
    "No path from the controller",
    "Address not learned",
]
#: They only read: each is run on the loopback. Exit status 2 is the kernel's "no".
READERS = {"ip", "tc", "ss"}
PROGRAMS = {*READERS, "tcpdump", "sysctl", "ethtool", "journalctl", "dig", "hawkwing"}
CHANGES = {"add", "del", "-w", "-K"}


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def block_lines(text: str) -> Iterator[str]:
    """Lines of code blocks, without the explanation behind two spaces."""
    for block in re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            yield re.split(r" {2,}", line.strip())[0]


def words_of(line: str) -> list[str]:
    """The words of a command, up to a pipe."""
    words = shlex.split(line)
    words = words[: words.index("|")] if "|" in words else words
    return words[1:] if words[:1] == ["sudo"] else words


def guide_commands() -> list[str]:
    text = GUIDE.read_text()
    inline = re.findall(r"`([^`\n]+)`", without_blocks(text))
    commands = [code for code in inline if code.split()[0] in {*PROGRAMS, "sudo"} and " " in code]
    return list(dict.fromkeys([*block_lines(text), *commands]))


def hawkwing_commands() -> list[tuple[str, str]]:
    lines = [(file.name, line) for file in DOCUMENTS for line in block_lines(file.read_text())]
    lines += [(GUIDE.name, line) for line in guide_commands()]
    found = ((name, line) for name, line in lines if re.match(r"(sudo )?hawkwing ", line))
    return list(dict.fromkeys(found))


def check_hawkwing(words: list[str]) -> None:
    arguments = parser().parse_args(words[1:])
    if arguments.command == "explain":
        read_target([word for word in (arguments.destination, arguments.port) if word is not None])


def anchors(file: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", without_blocks(file.read_text()), re.MULTILINE)
    return {re.sub("[^a-z0-9 _-]", "", head.lower()).replace(" ", "-") for head in heads}


@functools.cache
def messages() -> tuple[str, ...]:
    """All texts in the agent's sources; … stands for what is put in."""
    found = []
    for file in (PROJECT / "hawkwing").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


def is_a_message(code: str) -> bool:
    pattern = re.compile(".*".join(re.escape(piece.strip()) for piece in code.split("…")))
    return any(pattern.search(message) for message in messages())


def what_you_see() -> list[str]:
    """What is quoted in the first column of the guide's tables."""
    rows = re.findall(r"^\| (?!what you see|message)([^|]*) \|", GUIDE.read_text(), re.MULTILINE)
    return list(dict.fromkeys(code for row in rows for code in re.findall(r"`([^`]+)`", row)))


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_links_lead_somewhere(file: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(file.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (file.parent / path) if path else file
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_leads_to_each_document() -> None:
    readme = (PROJECT / "README.md").read_text()
    missing = [file.name for file in DOCUMENTS if file.name != "README.md" and f"{file.name})" not in readme]
    assert not missing


def test_the_security_model_has_the_numbers_of_the_sources() -> None:
    page = " ".join((PROJECT / "docs" / "security.md").read_text().split())
    numbers = limits()
    for sentence in (
        f"SIDs are in {' or '.join(map(str, DEFAULT_SR_DOMAIN))}",
        f"at most {numbers['HW_ANSWER_SECONDS']} seconds before",
        f"At most {numbers['HW_MAX_HMAC_LINKS']} interfaces of an agent",
        f"more than {MAX_SIDS} SIDs",
    ):
        assert sentence in page


def test_the_security_model_has_the_capabilities_of_the_units() -> None:
    page = (PROJECT / "docs" / "security.md").read_text()
    rows = re.findall(r"^\| (CAP_\w+) \|", page, re.MULTILINE)
    for unit in sorted((PROJECT / "packaging/systemd").glob("*.service")):
        (given,) = re.findall(r"^CapabilityBoundingSet=(.*)$", unit.read_text(), re.MULTILINE)
        assert given.split() == rows


def test_the_guide_has_each_symptom() -> None:
    assert re.findall(r"^## (.*)$", GUIDE.read_text(), re.MULTILINE) == SYMPTOMS


@pytest.mark.parametrize(("name", "line"), hawkwing_commands())
def test_the_command_line_understands(name: str, line: str) -> None:
    check_hawkwing(words_of(line))


def test_a_wrong_command_would_be_found() -> None:
    for line in ("sudo hawkwing states", "hawkwing explain wb.hawk.net 80 90", "hawkwing client -c a.yaml"):
        with pytest.raises(SystemExit):
            check_hawkwing(words_of(line))


@pytest.mark.parametrize("line", guide_commands())
def test_the_guides_commands_are_known(line: str) -> None:
    words = [word.replace("eth0", "lo") for word in words_of(line)]
    assert words[0] in PROGRAMS
    if words[0] == "journalctl":
        unit, _, _interface = words[-1].partition("@")
        assert (PROJECT / "packaging/systemd" / f"{unit}@.service").exists()
    if CHANGES.intersection(words) or not shutil.which(words[0]):
        return
    if words[0] == "tcpdump":
        command = ["tcpdump", "-y", "EN10MB", "-d", words[-1]]
        assert subprocess.run(command, capture_output=True).returncode == 0
    if words[0] in READERS:
        assert subprocess.run(words, capture_output=True).returncode in (0, 2)
    if words[0] == "sysctl" and Path("/proc/sys/net/ipv6/conf/lo/seg6_enabled").exists():
        assert subprocess.run(words, capture_output=True).returncode == 0


@pytest.mark.parametrize("code", what_you_see())
def test_what_the_guide_quotes_exists(code: str) -> None:
    if code.isupper():
        assert code in {reason.name for reason in reasons()}
    else:
        assert is_a_message(code)


def test_a_wrong_quotation_would_be_found() -> None:
    assert is_a_message("missing …: run it as root")
    assert not is_a_message("missing …: run it as somebody")
