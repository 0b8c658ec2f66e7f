"""What needs no VPP to be tested: where it is looked for, how it is started, what the bench makes of it."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.bench import machine, report, vpp
from lab.bench.figures import Series
from lab.vpp import startup
from lab.vpp.installation import PREFIX_VARIABLE, VppMissingError, find
from lab.vpp.startup import API_SOCKET, CLI_SOCKET, STATS_SOCKET, shared_memory, startup_text

VERSION = "vpp v25.06-release built by someone on somewhere"


def program(path: Path, text: str = f"echo {VERSION}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def install(root: Path, plugins: str = "lib/vpp_plugins") -> Path:
    """As much of VPP as is looked for, under `root`."""
    for name in ("vpp", "vppctl"):
        program(root / "bin" / name)
    (root / plugins).mkdir(parents=True)
    (root / plugins / "af_packet_plugin.so").touch()
    (root / "share/vpp/api/core").mkdir(parents=True)
    return root


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither on the PATH nor by the variable, whatever this machine has."""
    monkeypatch.delenv(PREFIX_VARIABLE, raising=False)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))


def refused(prefix: Path | None = None) -> str:
    """Why there is no VPP: one sentence, on one line, without a full stop."""
    with pytest.raises(VppMissingError) as caught:
        find(str(prefix) if prefix else None)
    sentence = str(caught.value)
    assert len(sentence.splitlines()) == 1 and not sentence.endswith(".")
    return sentence


class TestWhereItIs:
    def test_under_a_prefix(self, tmp_path: Path) -> None:
        root = install(tmp_path / "here")
        found = find(str(root))
        assert (found.program, found.console) == (root / "bin/vpp", root / "bin/vppctl")
        assert (found.plugins, found.api) == (root / "lib/vpp_plugins", root / "share/vpp/api")

    @pytest.mark.parametrize(
        "plugins", ["lib/x86_64-linux-gnu/vpp_plugins", "lib/vpp_plugins", "lib64/vpp_plugins"]
    )
    def test_under_a_prefix_with_usr(self, tmp_path: Path, plugins: str) -> None:
        root = install(tmp_path / "unpacked" / "usr", plugins)
        found = find(str(tmp_path / "unpacked"))
        assert (found.program, found.plugins) == (root / "bin/vpp", root / plugins)

    def test_on_the_path_through_a_symbolic_link(self, tmp_path: Path) -> None:
        root = install(tmp_path / "elsewhere")
        (tmp_path / "path").mkdir()
        (tmp_path / "path" / "vpp").symlink_to(root / "bin/vpp")
        found = find()
        assert (found.program, found.console) == (root / "bin/vpp", root / "bin/vppctl")
        assert found.environment == {}, "the loader finds the libraries of what is on the PATH"

    def test_by_the_variable_before_the_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        on_path, by_variable = install(tmp_path / "one"), install(tmp_path / "two")
        monkeypatch.setenv("PATH", str(on_path / "bin"))
        assert find().program == on_path / "bin/vpp"
        monkeypatch.setenv(PREFIX_VARIABLE, str(by_variable))
        assert find().program == by_variable / "bin/vpp"

    def test_by_the_option_before_the_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        by_variable, by_option = install(tmp_path / "one"), install(tmp_path / "two")
        monkeypatch.setenv(PREFIX_VARIABLE, str(by_variable))
        assert find(str(by_option)).program == by_option / "bin/vpp"
        assert "nowhere" in refused(tmp_path / "nowhere"), "a wrong option is not made good by the variable"

    def test_libraries_under_a_prefix(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = install(tmp_path, "lib/x86_64-linux-gnu/vpp_plugins")
        folders = f"{root}/lib:{root}/lib/x86_64-linux-gnu"
        assert find(str(root)).environment == {"LD_LIBRARY_PATH": folders}
        monkeypatch.setenv("LD_LIBRARY_PATH", "/former")
        assert find(str(root)).environment == {"LD_LIBRARY_PATH": f"{folders}:/former"}

    def test_plugins_that_are_there(self, tmp_path: Path) -> None:
        found = find(str(install(tmp_path)))
        assert found.present_plugins == ["af_packet_plugin.so"]
        (found.plugins / "ping_plugin.so").touch()
        assert found.present_plugins == ["af_packet_plugin.so", "ping_plugin.so"]

    def test_version(self, tmp_path: Path) -> None:
        assert find(str(install(tmp_path))).version() == "25.06-release"
        program(tmp_path / "bin/vpp", "exit 1")
        with pytest.raises(VppMissingError, match="bin/vpp does not run: exit status 1"):
            find(str(tmp_path)).version()

    def test_version_of_a_release_without_the_option(self, tmp_path: Path) -> None:
        found = find(str(install(tmp_path)))
        refusal = "vlib_plugin_config: unknown input '--version'"
        program(found.program, f'echo "{refusal}" >&2; exit 1 # vpp v25.10-release built by someone')
        assert found.version() == "25.10-release"
        program(found.program, "echo no libvnet.so >&2; exit 127 # vpp v25.10-release built by someone")
        with pytest.raises(VppMissingError, match=r"bin/vpp does not run: no libvnet.so$"):
            found.version()


class TestWhatIsMissing:
    def test_all_of_it(self) -> None:
        sentence = refused()
        assert all(word in sentence for word in ("PATH", "vpp-plugin-core", "--vpp-prefix", PREFIX_VARIABLE))

    def test_the_program(self, tmp_path: Path) -> None:
        root = install(tmp_path)
        (root / "bin/vpp").chmod(0o644)
        assert refused(root) == f"{root} has no program bin/vpp"

    @pytest.mark.parametrize(
        ("take_away", "name"),
        [
            (lambda root: (root / "bin/vppctl").unlink(), "the program {root}/bin/vppctl"),
            (lambda root: (root / "lib/vpp_plugins/af_packet_plugin.so").unlink(), "vpp-plugin-core"),
            (
                lambda root: (root / "lib/vpp_plugins").rename(root / "plugins"),
                "lib/vpp_plugins under {root}",
            ),
            (lambda root: (root / "share/vpp/api").rename(root / "api"), "the folder {root}/share/vpp/api"),
        ],
        ids=["console", "plugin", "plugins", "api"],
    )
    def test_a_part(self, tmp_path: Path, take_away: Callable[[Path], object], name: str) -> None:
        root = install(tmp_path)
        take_away(root)
        sentence = refused(root)
        assert name.format(root=root) in sentence
        assert " and " not in sentence, "nothing else is missing"

    def test_several_parts_at_once(self, tmp_path: Path) -> None:
        program(tmp_path / "bin/vpp")
        sentence = refused(tmp_path)
        assert all(name in sentence for name in ("bin/vppctl", "lib/vpp_plugins", "share/vpp/api"))


def sections(text: str) -> dict[str, list[str]]:
    """The configuration's sections with their lines; a section begins where a line does."""
    found = {}
    for section in re.split(r"\n(?=[a-z])", text.strip()):
        name, body = section.split(" {", 1)
        assert section.count("{") == section.count("}") and body.endswith("}")
        found[name] = [line.strip() for line in body[:-1].strip().splitlines()]
    return found


class TestStart:
    FOLDER = Path("/run/lab/vpp/r1")

    @pytest.fixture
    def text(self) -> str:
        wanted = ["af_packet_plugin.so", "ping_plugin.so"]
        return startup_text("lab-r1", self.FOLDER, Path("/opt/vpp/lib/vpp_plugins"), wanted)

    def test_sockets_are_its_own(self, text: str) -> None:
        found = sections(text)
        assert found["socksvr"] == [f"socket-name {self.FOLDER}/{API_SOCKET}"]
        assert f"socket-name {self.FOLDER}/{STATS_SOCKET}" in found["statseg"]
        assert f"cli-listen {self.FOLDER}/{CLI_SOCKET}" in found["unix"]
        assert f"runtime-dir {self.FOLDER}" in found["unix"]
        assert set(re.findall(r"/run/\S*", text)) == {
            str(self.FOLDER),
            *(f"{self.FOLDER}/{name}" for name in (API_SOCKET, CLI_SOCKET, STATS_SOCKET)),
        }

    def test_shared_memory_is_its_own(self, text: str) -> None:
        assert sections(text)["api-segment"] == ["prefix lab-r1"]

    def test_it_neither_sleeps_by_the_clock_nor_leaves_for_the_background(self, text: str) -> None:
        assert "poll-sleep-usec" not in text
        assert "nodaemon" in sections(text)["unix"]

    def test_no_hugepages(self, text: str) -> None:
        found = sections(text)
        assert "main-heap-page-size 4K" in found["memory"]
        assert "page-size 4K" in found["buffers"] and "page-size 4K" in found["statseg"]
        assert "hugepage" not in text and set(re.findall(r"page-size (\S+)", text)) == {"4K"}

    def test_only_the_wanted_plugins(self, text: str) -> None:
        assert sections(text)["plugins"] == [
            "path /opt/vpp/lib/vpp_plugins",
            "plugin default { disable }",
            "plugin af_packet_plugin.so { enable }",
            "plugin ping_plugin.so { enable }",
        ]

    def test_shared_memory_of_this_instance_only(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(startup, "_SHARED_MEMORY", tmp_path)
        assert shared_memory("lab-r1") == []
        for name in (
            "lab-r1-global_vm",
            "lab-r1-vpe-api",
            "lab-r11-global_vm",
            "my-lab-r1-vpe-api",
            "lab-r1",
        ):
            (tmp_path / name).touch()
        assert shared_memory("lab-r1") == [tmp_path / "lab-r1-global_vm", tmp_path / "lab-r1-vpe-api"]
        (tmp_path / "lab-r1-vpe-api").unlink()
        assert shared_memory("lab-r1") == [tmp_path / "lab-r1-global_vm"]


class TestBench:
    def test_version_of_what_runs_here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert vpp.version() is None
        monkeypatch.setenv(PREFIX_VARIABLE, str(install(tmp_path)))
        assert vpp.version() == "25.06-release"
        program(tmp_path / "bin/vpp", "exit 1")
        assert vpp.version() is None

    def test_processor_time_of_a_process(self) -> None:
        begun = machine.processor_seconds(os.getpid())
        while (used := time.process_time()) < begun + 0.1:
            continue
        assert begun < machine.processor_seconds(os.getpid()) == pytest.approx(used, abs=0.05)

    def test_shown_and_written_where_measured(self, capsys: pytest.CaptureFixture[str]) -> None:
        results = report.Results(quick=True)
        report.show(results, {"kernel": "6"}, report.terminal())
        assert "The lab by its routers" not in capsys.readouterr().out
        up, memory = Series("until lab.up is done", "s"), Series("memory", "MB")
        for name, value in ((vpp.KERNEL, 1.0), (vpp.VPP, 2.5)):
            up.add(name, value)
        memory.add(vpp.VPP, 106.5)
        results.routers = [up, memory]
        report.show(results, {"kernel": "6"}, report.terminal())
        assert re.search(r"until lab.up is done, s +│ +1 │ +2.5 │ +2.50 ", capsys.readouterr().out)
        told = json.loads(report.as_json(results, {}, 1.0))["routers"]
        assert [one["ratio"] for one in told] == [{"VPP/kernel": 2.5}, {"VPP/kernel": None}]
