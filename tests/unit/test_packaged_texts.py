"""Manual pages and completion are those of the parser and the models, and the shells understand them."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.packages import completion, manual
from lab.packages.commandline import commands
from lab.packages.texts import texts
from lab.wait import PATIENCE, wait_until

PROJECT = Path(__file__).parents[2]
#: What would be offered is written to a file, and so is the end of it.
ZSHRC = """
unset zle_bracketed_paste
fpath=("$COMPLETION" $fpath)
autoload -Uz compinit && compinit -u -D
_net_interfaces() { compadd lo }
compadd() {
  local -a offered
  builtin compadd -A offered "$@"
  print -rl -- $offered >>"$OFFERED"
  builtin compadd "$@"
}
ended() { print END >>"$OFFERED" }
comppostfuncs=(ended)
bindkey '^I' complete-word
print BEGIN >>"$OFFERED"
"""


def test_files_are_as_they_are_made() -> None:
    for path, text in texts().items():
        assert path.read_text() == text, f"{path.name}: run python -m lab.packages.texts"


def test_the_manual_names_all_there_is() -> None:
    page = (manual.FOLDER / "hawkwing.1").read_text()
    for command in commands():
        assert manual.escaped(f"hawkwing {command.name}") in page
        for option in command.options:
            assert all(manual.escaped(flag) in page for flag in option.flags)
    assert "--ingress-hook" not in page, "a hyphen that could not be searched for"


@pytest.mark.skipif(not shutil.which("groff"), reason="no groff")
@pytest.mark.parametrize("name", ["hawkwing.1", "hawkwing.yaml.5"])
def test_groff_warns_of_nothing(name: str) -> None:
    command = ["groff", "-man", "-ww", "-z", "-Tutf8", "-rLL=100n", str(manual.FOLDER / name)]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""


def bash(*words: str) -> list[str]:
    """What bash offers for the last word."""
    script = f'. "{completion.FOLDER}/hawkwing.bash"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hawkwing; '
    script += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


def fish(line: str) -> list[str]:
    """What fish offers at the end of a line."""
    script = f"source {completion.FOLDER}/hawkwing.fish; complete -C '{line}'"
    done = subprocess.run(["fish", "-N", "-c", script], capture_output=True, text=True, check=True)
    return [entry.partition("\t")[0] for entry in done.stdout.splitlines()]


def test_bash_offers_commands_options_and_values(tmp_path: Path) -> None:
    assert bash("hawkwing", "s") == ["server", "status"]
    assert bash("hawkwing", "client", "--s") == ["--sr-domain"]
    assert bash("hawkwing", "client", "--ingress-hook", "xdp") == ["xdp", "xdp-generic"]
    assert "lo" in bash("hawkwing", "server", "-i", "")
    assert bash("hawkwing", "reload", "c") == ["client"]
    assert bash("hawkwing", "server", "--flows", "") == []
    # -i is a time and -c a number there.
    assert bash("hawkwing", "ping", "-i", "") == bash("hawkwing", "trace", "-c", "") == []
    (tmp_path / "some.yaml").touch()
    assert bash("hawkwing", "client", "-c", f"{tmp_path}/s") == [f"{tmp_path}/some.yaml"]
    assert bash("hawkwing", "check", f"{tmp_path}/s") == [f"{tmp_path}/some.yaml"]


def test_bash_knows_each_command_with_its_options() -> None:
    assert set(bash("hawkwing", "")) == {*(command.name for command in commands()), "--help", "--version"}
    for command in commands():
        flags = {flag for option in command.options for flag in option.flags}
        assert set(bash("hawkwing", command.name, "-")) == {*flags, "--help"}


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish")
def test_fish_offers_the_same() -> None:
    assert fish("hawkwing s") == ["server", "status"]
    assert "--sr-domain" in fish("hawkwing client --s")
    assert fish("hawkwing client --ingress-hook xdp") == ["xdp", "xdp-generic"]
    assert "lo" in fish("hawkwing server -i ")
    assert fish("hawkwing reload c") == ["client"]


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("hawkwing s", {"server", "status"}),
        ("hawkwing client --sr", {"--sr-domain"}),
        ("hawkwing client --ingress-hook x", {"xdp", "xdp-generic"}),
        ("hawkwing server -i ", {"lo"}),
        ("hawkwing reload c", {"client"}),
    ],
)
def test_zsh_offers_the_same(tmp_path: Path, line: str, offered: set[str]) -> None:
    assert zsh(tmp_path, line) == offered


def zsh(folder: Path, line: str) -> set[str]:
    """What an interactive zsh offers at the end of a line, on a terminal of its own."""
    (folder / ".zshrc").write_text(ZSHRC)
    file = folder / "offered"
    file.touch()
    ours, theirs = pty.openpty()
    environment = {"ZDOTDIR": str(folder), "OFFERED": str(file), "COMPLETION": str(completion.FOLDER)}
    environment |= {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(folder)}
    shell = subprocess.Popen(
        ["zsh", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )

    def has(word: str) -> bool:
        if select.select([ours], [], [], 0)[0]:
            os.read(ours, 4096)
        return word in file.read_text().splitlines()

    try:
        wait_until(lambda: has("BEGIN"), PATIENCE, "zsh to start")
        os.write(ours, f"{line}\t".encode())
        wait_until(lambda: has("END"), PATIENCE, "zsh to complete")
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)
        os.close(theirs)
    return set(file.read_text().split()) - {"BEGIN", "END"}
