"""The Debian package in a bare system, booted in the lab: installed, used, upgraded, removed."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from lab.distributions.catalogue import named
from lab.distributions.roots import RootError, Roots
from lab.network import Lab
from lab.packages import image as images
from lab.packages.machine import Machine
from lab.wait import PATIENCE, wait_until
from lab.wire import Capture, tcp_port
from tests.integration.conftest import Agents, Endpoint, filters
from tests.integration.onwire import A, B, assert_steered
from tests.integration.test_changes import DATAGRAMS, Traffic, assert_nothing_lost_or_plain, ends
from tests.integration.test_steering import BY_ADDRESS, http

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

CLIENT, SERVER = "hawkwing-client@eth0", "hawkwing-server@eth0"
CONFIG = "etc/hawkwing/config.yaml"
MOST_EXPOSURE = 3.0
#: Numbers of linux/capability.h.
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
PROJECT = Path(__file__).parents[2]
SCHEMAS = {"config.schema.json": "docs/hawkwing.schema.json", "status.schema.json": "docs/status.schema.json"}


@pytest.fixture
def installed(booted: Machine, root: Path) -> Machine:
    """With the package, and a configuration for the client."""
    booted.succeed("dpkg", "-i", "/hawkwing.deb")
    (root / CONFIG).write_text(BY_ADDRESS)
    return booted


def files(root: Path) -> set[str]:
    """All that a package may leave, without what dpkg, systemd and the log keep of their own."""
    found = set()
    for folder in ("etc", "usr", "var", "lib", "opt", "root", "srv"):
        for path, _folders, names in os.walk(root / folder):
            found |= {f"{path}/{name}".removeprefix(str(root)) for name in names}
            found.add(path.removeprefix(str(root)))
    own = ("/var/lib/dpkg/", "/var/log/", "/var/lib/systemd/", "/etc/.pwd.lock")
    ours = "/var/lib/systemd/deb-systemd"
    return {
        name for name in found if name.startswith(ours) or not (name.startswith(own) or name.endswith("-old"))
    }


def agents_inside(machine: Machine) -> list[str]:
    """The command lines of its processes that are agents."""
    script = "for file in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$file; echo; done 2>/dev/null"
    return [line for line in machine.succeed("sh", "-c", script).splitlines() if "/hawkwing " in line]


def test_removal_leaves_nothing(lab: Lab, booted: Machine, root: Path, agents: Agents) -> None:
    before = files(root)
    booted.succeed("dpkg", "-i", "/hawkwing.deb")
    shipped = (root / CONFIG).read_text()
    assert booted.succeed("hawkwing", "version").startswith("hawkwing ")
    assert any(name.endswith(".pyc") for name in files(root) if name.startswith("/usr/lib/hawkwing/"))
    booted.succeed("systemctl", "enable", "--now", SERVER)
    assert "hawkwing:server" in filters(lab, "host-a"), "a server needs no configuration"
    assert booted.run("systemctl", "start", CLIENT).returncode != 0
    assert "services: is missing, at least this is needed:" in booted.journal(CLIENT)
    (root / CONFIG).write_text(BY_ADDRESS)
    booted.succeed("systemctl", "restart", CLIENT)
    assert len(agents_inside(booted)) == 2
    booted.succeed("dpkg", "--remove", "hawkwing")
    assert filters(lab, "host-a") == ""
    assert agents_inside(booted) == []
    kept = ("/etc/hawkwing", "/etc/systemd/system/", "/var/lib/systemd/deb-systemd")
    assert {name for name in files(root) - before if not name.startswith(kept)} == set()
    assert (root / CONFIG).read_text() == BY_ADDRESS, "the administrator's"
    booted.succeed("dpkg", "-i", "/hawkwing.deb")
    assert (root / CONFIG).read_text() == BY_ADDRESS
    booted.succeed("dpkg", "--purge", "hawkwing")
    assert files(root) - before == set()
    assert booted.run("sh", "-c", "ls /run/hawkwing").returncode != 0
    assert "hawkeye:" in shipped


BARE = """
set -e
apt-get -q update
apt-get -q -y --no-install-recommends install /hawkwing.deb
hawkwing version
hawkwing check /usr/share/doc/hawkwing/docs/example.yaml
apt-get -q -y purge hawkwing
"""


def test_apt_installs_it_in_a_bare_root(distribution: str, package: Path, tmp_path: Path) -> None:
    """With all that it depends on, from the distribution's own archive; without systemd."""
    try:
        chroot = Roots(images.CACHE, {}, fresh=False).unpack(named(distribution), tmp_path / "root")
    except RootError as error:
        pytest.skip(f"no root file system here: {error}")
    try:
        shutil.copyfile(package, chroot.root / "hawkwing.deb")
        log = tmp_path / "log"
        assert chroot.run(["sh", "-c", BARE], log) == 0, log.read_text()
        assert re.search(r"^hawkwing [\d.]+$", log.read_text(), re.MULTILINE)
        assert re.search(r": valid, \d+ services? with ", log.read_text())
        left = {path for path in chroot.root.rglob("*hawkwing*") if "log" not in path.parts}
        assert left == {chroot.root / "hawkwing.deb"}
    finally:
        shutil.rmtree(chroot.root)


def test_conffile_manual_and_completion_are_there(package: Path) -> None:
    control = ["dpkg-deb", "--info", str(package), "conffiles"]
    done = subprocess.run(control, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"/{CONFIG}"]
    listed = subprocess.run(["dpkg-deb", "--contents", package], capture_output=True, text=True, check=True)
    names = {line.split()[5].removeprefix(".") for line in listed.stdout.splitlines()}
    assert names >= {
        "/usr/bin/hawkwing",
        "/usr/share/man/man1/hawkwing.1.gz",
        "/usr/share/man/man5/hawkwing.yaml.5.gz",
        "/usr/share/bash-completion/completions/hawkwing",
        "/usr/share/zsh/vendor-completions/_hawkwing",
        "/usr/share/fish/vendor_completions.d/hawkwing.fish",
    }


def test_all_documents_are_there(package: Path, tmp_path: Path) -> None:
    """As they are here, and not compressed: they link to each other."""
    subprocess.run(["dpkg-deb", "-x", str(package), str(tmp_path)], check=True)
    there = tmp_path / "usr/share/doc/hawkwing"
    ours = [*PROJECT.glob("docs/*"), *PROJECT.glob("deploy/*")]
    ours += [PROJECT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")]
    assert len(ours) > 15
    for file in ours:
        assert (there / file.relative_to(PROJECT)).read_bytes() == file.read_bytes(), file.name
    for name, source in SCHEMAS.items():
        assert (tmp_path / "usr/share/hawkwing" / name).read_bytes() == (PROJECT / source).read_bytes()


def test_a_configuration_that_is_there_before_the_package_stays(
    lab: Lab, booted: Machine, root: Path, package: Path
) -> None:
    """As tools for many hosts do it; dpkg has nobody to ask, and later nothing to ask."""
    (root / CONFIG).parent.mkdir()
    (root / CONFIG).write_text(BY_ADDRESS)
    booted.succeed("dpkg", "--force-confold", "-i", "/hawkwing.deb")
    booted.succeed("systemctl", "enable", "--now", CLIENT)
    booted.succeed("dpkg", "-i", newer(package, root))
    assert (root / CONFIG).read_text() == BY_ADDRESS
    assert booted.show(CLIENT, "ActiveState") == "active"
    booted.succeed("systemctl", "stop", CLIENT)
    assert filters(lab, "host-a") == ""
    (root / CONFIG).unlink()
    booted.succeed("dpkg", "-i", newer(package, root))
    assert not (root / CONFIG).exists(), "an upgrade does not bring it back"


def test_options_of_one_unit_go_before_those_of_all(installed: Machine, root: Path) -> None:
    made = {"hawkwing": "--flows=1000", SERVER: "--flows=2000"}
    for name, options in made.items():
        (root / "etc/default" / name).write_text(f"HAWKWING_OPTIONS={options}\n")
    try:
        installed.succeed("systemctl", "start", SERVER)
        (line,) = agents_inside(installed)
        assert "--flows=2000" in line and "--flows=1000" not in line
        installed.succeed("systemctl", "stop", SERVER)
    finally:
        for name in made:
            (root / "etc/default" / name).unlink()


def test_units_steer_reload_and_stop(
    lab: Lab, installed: Machine, root: Path, agents: Agents, capture: Capture
) -> None:
    agents.server("host-b")
    installed.succeed("systemctl", "start", CLIENT)
    assert installed.show(CLIENT, "StatusText") == "client on eth0"
    assert installed.succeed("hawkwing", "status").startswith("hawkwing client")
    capture.forget()
    assert http(lab, f"http://[{B}]/") == "Hello from host-b\n"
    assert_steered(capture.settled(tcp_port(80)))
    installed.succeed("systemctl", "reload", CLIENT)
    assert installed.show(CLIENT, "ActiveState") == "active"
    (root / CONFIG).write_text(BY_ADDRESS.replace("5000", "99999"))
    assert installed.run("systemctl", "reload", CLIENT).returncode != 0
    assert "99999 is not a port, use 1 to 65535" in installed.journal(CLIENT)
    assert installed.show(CLIENT, "ActiveState") == "active"
    assert "hawkwing:client" in filters(lab, "host-a")
    installed.succeed("systemctl", "stop", CLIENT)
    assert filters(lab, "host-a") == ""
    assert installed.show(CLIENT, "Result") == "success"


@pytest.mark.parametrize("unit", [CLIENT, SERVER])
def test_units_have_few_rights(installed: Machine, unit: str) -> None:
    """As this release's systemd judges them, drop-ins included, and what the kernel says of the agent."""
    installed.succeed("systemctl", "start", unit)
    told = installed.succeed("systemd-analyze", "security", "--no-pager", unit)
    exposure = float(re.findall(r"exposure level for .*: ([0-9.]+)", told)[0])
    print(f"{unit}: exposure {exposure}")
    assert exposure <= MOST_EXPOSURE, told
    status = installed.succeed("cat", f"/proc/{installed.show(unit, 'MainPID')}/status")
    for kind in ("CapPrm", "CapEff", "CapBnd"):
        held = int(re.findall(rf"^{kind}:\s*([0-9a-f]+)$", status, re.MULTILINE)[0], 16)
        assert held == sum(1 << number for number in CAPABILITIES.values()), kind
    assert re.search(r"^NoNewPrivs:\s*1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s*2$", status, re.MULTILINE)
    installed.succeed("systemctl", "stop", unit)


def test_a_hanging_agent_is_replaced_and_steering_goes_on(
    lab: Lab, installed: Machine, root: Path, agents: Agents, udp: Callable[..., Endpoint]
) -> None:
    agents.server("host-b")
    drop_in = root / f"run/systemd/system/{CLIENT}.service.d/watchdog.conf"
    text = "[Service]\nWatchdogSec=5\n"
    script = 'mkdir -p "${1%/*}"; printf %s "$2" >"$1"; systemctl daemon-reload'
    installed.succeed("sh", "-c", script, "sh", f"/{drop_in.relative_to(root)}", text)
    installed.succeed("systemctl", "start", CLIENT)
    first = installed.show(CLIENT, "MainPID")
    with closing(ends(lab)) as taps, Traffic(udp("host-a"), udp("host-b", 5000)) as running:
        wait_until(lambda: running.returned > 20, PATIENCE, "traffic")
        taps.forget()
        sent, returned = running.sent, running.returned
        installed.succeed("systemctl", "kill", "--signal=STOP", "--kill-who=main", CLIENT)
        wait_until(
            lambda: (
                taps.count()  # read meanwhile: they hold some seconds of this traffic
                and installed.show(CLIENT, "MainPID") not in (first, "0")
                and installed.show(CLIENT, "ActiveState") == "active"
            ),
            PATIENCE,
            "another agent",
        )
        wait_until(lambda: running.returned > returned + 50, PATIENCE, "traffic")
        running.stop()
        assert running.sent - sent > 50 and running.sent == running.returned
        assert taps.count(DATAGRAMS) > 200
        assert not taps.count(replace(DATAGRAMS, steered=False))
    assert "watchdog" in installed.journal(CLIENT).lower()
    assert int(installed.show(CLIENT, "NRestarts")) >= 1
    installed.succeed("systemctl", "stop", CLIENT)
    assert filters(lab, "host-a") == ""


def test_a_server_keeps_its_flows_when_it_is_restarted(
    lab: Lab, installed: Machine, agents: Agents, udp: Callable[..., Endpoint]
) -> None:
    """systemd has its maps meanwhile: what only host-a sends is steered without being learned again."""
    agents.client(BY_ADDRESS.replace(B, A), "host-b")
    installed.succeed("systemctl", "start", SERVER)
    near, far = udp("host-a", 5000), udp("host-b")
    far.socket.sendto(b"question", (A, 5000))
    near.socket.recv(100)
    for how in (("restart", SERVER), ("kill", "--signal=KILL", SERVER)):
        pid = installed.show(SERVER, "MainPID")
        installed.succeed("systemctl", *how)
        wait_until(
            lambda pid=pid: (
                installed.show(SERVER, "MainPID") not in (pid, "0")
                and installed.show(SERVER, "ActiveState") == "active"
            ),
            PATIENCE,
            "another agent",
        )
        with closing(ends(lab)) as taps:
            near.socket.sendto(b"answer", (B, far.port))
            far.socket.recv(100)
            assert_steered(taps.settled(DATAGRAMS))
    assert "learned again" not in installed.journal(SERVER)
    installed.succeed("systemctl", "stop", SERVER)
    assert filters(lab, "host-a") == ""


def newer(package: Path, folder: Path) -> str:
    """The same package with a higher version, in `folder`."""
    made = folder / "newer"
    subprocess.run(["dpkg-deb", "--raw-extract", package, made], check=True)
    control = made / "DEBIAN/control"
    lines = [
        f"{line}.1" if line.startswith("Version:") else line for line in control.read_text().splitlines()
    ]
    control.write_text("\n".join(lines) + "\n")
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", made, folder / "newer.deb"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(made)
    return "/newer.deb"


def test_an_upgrade_under_traffic_loses_nothing(
    lab: Lab,
    installed: Machine,
    root: Path,
    package: Path,
    former: Path,
    agents: Agents,
    udp: Callable[..., Endpoint],
) -> None:
    agents.server("host-b")
    if former != package:
        shutil.copyfile(former, root / "former.deb")
        installed.succeed("dpkg", "--force-confold", "-i", "/former.deb")
    for unit in (CLIENT, SERVER):
        installed.succeed("systemctl", "start", unit)
    before = [installed.show(unit, "MainPID") for unit in (CLIENT, SERVER)]
    file = newer(package, root)
    with closing(ends(lab)) as taps:
        running = Traffic(udp("host-a"), udp("host-b", 5000))
        try:
            wait_until(lambda: running.returned > 20, PATIENCE, "traffic")
            with ThreadPoolExecutor(1) as pool:
                upgrade = pool.submit(installed.succeed, "dpkg", "-i", file)
                # The captures hold some seconds of this traffic: they are read meanwhile.
                wait_until(lambda: taps.count() and upgrade.done(), PATIENCE, "the upgrade", pause=0.5)
            upgrade.result()
            after = running.returned
            wait_until(lambda: running.returned > after + 20, PATIENCE, "traffic")
        finally:
            running.stop()
        assert_nothing_lost_or_plain(running, taps)
    for unit, pid in zip((CLIENT, SERVER), before, strict=True):
        assert installed.show(unit, "ActiveState") == "active"
        assert installed.show(unit, "MainPID") != pid
    assert (root / CONFIG).read_text() == BY_ADDRESS
    for unit in (CLIENT, SERVER):
        installed.succeed("systemctl", "stop", unit)
    assert filters(lab, "host-a") == ""
