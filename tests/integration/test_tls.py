"""The controller behind TLS and mutual TLS, with certificates made for the test."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.controller import restart
from lab.network import Lab
from lab.wait import wait_until
from tests.certificates import make_certificate

from .conftest import HAWKWING, Agents
from .test_intents import LOW_LATENCY, bindings

Make = Callable[..., tuple[Path, Path]]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`make("ca")` makes an authority, `make("server", signer="ca")` a certificate of it: PEM files."""
    folder = tmp_path_factory.mktemp("tls")
    return functools.partial(make_certificate, folder)


@pytest.fixture
def secured(lab: Lab, make: Make) -> Iterator[Callable[[bool], None]]:
    """`secured(mutual)` restarts the controller with TLS; the plain one is put back afterwards."""
    make("ca")

    def start(mutual: bool) -> None:
        pem, key = make("server", signer="ca")
        options = ["--tls-certificate", str(pem), "--tls-key", str(key)]
        if mutual:
            options += ["--tls-ca", str(pem.with_name("ca.pem"))]
        restart(lab, None, options=options)

    yield start
    restart(lab, None)


def with_tls(**files: Path) -> str:
    tls = ", ".join(f"{key}: {path}" for key, path in files.items())
    return LOW_LATENCY.replace("port: 5001}", f"port: 5001, tls: {{{tls}}}}}")


def answered(lab: Lab) -> bool:
    return bindings(lab)[80]["origin"] == "controller"


def test_tls(lab: Lab, agents: Agents, make: Make, secured: Callable[[bool], None]) -> None:
    secured(False)
    ca = make("ca")[0].with_name("ca.pem")
    secured(False)
    agents.client(with_tls(ca=ca))
    wait_until(lambda: answered(lab), 5.0, "the path comes over TLS")


def test_mutual_tls(lab: Lab, agents: Agents, make: Make, secured: Callable[[bool], None]) -> None:
    secured(True)
    pem, key = make("client", signer="ca")
    agents.client(with_tls(ca=pem.with_name("ca.pem"), certificate=pem, key=key))
    wait_until(lambda: answered(lab), 5.0, "the path comes over mutual TLS")


def test_controller_that_nobody_vouches_for(
    lab: Lab, agents: Agents, make: Make, secured: Callable[[bool], None]
) -> None:
    secured(False)
    other = make("other")[0]
    client = agents.client(with_tls(ca=other))
    wait_until(lambda: "warning: cannot reach" in client.output(), 10.0, "it is told")
    assert "its certificate is not signed by hawkeye.tls.ca" in client.output()
    assert client.output().count("cannot reach") == 1
    assert bindings(lab)[80]["origin"] == "none"


def test_client_whose_certificate_is_refused(
    lab: Lab, agents: Agents, make: Make, secured: Callable[[bool], None]
) -> None:
    secured(True)
    make("other")
    pem, key = make("stranger", signer="other")
    client = agents.client(with_tls(ca=pem.with_name("ca.pem"), certificate=pem, key=key))
    wait_until(lambda: "controller" in client.output(), 10.0, "it is told")
    said = [line for line in client.output().splitlines() if "controller" in line]
    assert len(said) == 1, said
    assert bindings(lab)[80]["origin"] == "none"


def test_plaintext_client_of_a_tls_controller(
    lab: Lab, agents: Agents, secured: Callable[[bool], None]
) -> None:
    secured(False)
    client = agents.client(LOW_LATENCY)
    wait_until(lambda: "at [fcbb:cc00:5::f]:5001:" in client.output(), 10.0, "it is told")
    assert bindings(lab)[80]["origin"] == "none"


def test_files_that_are_wrong(lab: Lab, make: Make, tmp_path: Path) -> None:
    pem, _key = make("ca")
    file = tmp_path / "tls.yaml"

    def run(text: str) -> str:
        file.write_text(text)
        result = lab.execute(
            "host-a", [*HAWKWING, "client", "-i", "eth0", "--config", str(file)], check=False
        )
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1, result.stderr
        return result.stderr

    assert "there-is-none.pem can't be read: No such file" in run(with_tls(ca=Path("there-is-none.pem")))
    assert "has no certificate in PEM form" in run(with_tls(ca=file))
    assert "certificate requires key as well" in run(with_tls(certificate=pem))


def test_renewed_certificates_are_used_at_reload_and_at_the_next_connection(
    lab: Lab, agents: Agents, make: Make, secured: Callable[[bool], None]
) -> None:
    """Under the same names: the client's first certificate is one that the controller refuses."""
    secured(True)
    pem, key = make("renewed", signer="ca")
    good = pem.read_bytes(), key.read_bytes()
    make("stranger")
    make("renewed", signer="stranger")
    client = agents.client(with_tls(ca=pem.with_name("ca.pem"), certificate=pem, key=key))
    wait_until(lambda: "warning: cannot reach" in client.output(), 10.0, "it is refused")
    assert not answered(lab)
    pem.write_bytes(good[0])
    key.write_bytes(good[1])
    # The next attempt may be some seconds away.
    wait_until(lambda: answered(lab), 30.0, "the renewed certificate is used")
    assert "hawkeye.tls: the files have changed, using the new ones" in client.output()
    connections = client.output().count("connected to the controller")
    make("renewed", signer="ca")
    assert lab.execute("host-a", [*HAWKWING, "reload"]).stdout == "configuration reloaded\n"
    wait_until(
        lambda: client.output().count("connected to the controller") > connections, 10.0, "a new connection"
    )
    connections += 1
    lab.execute("host-a", [*HAWKWING, "reload"])
    assert client.output().count("connected to the controller") == connections
