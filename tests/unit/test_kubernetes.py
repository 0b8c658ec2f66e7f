"""deploy/kubernetes.yaml is right for Kubernetes, asks for no more than the agent needs, and starts it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hawkwing.cli import parser
from hawkwing.config import load_config

PROJECT = Path(__file__).parents[2]
FILE = PROJECT / "deploy" / "kubernetes.yaml"
VERSIONS = ("1.30", "1.37")
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all(FILE.read_text()))
AGENTS = [one for one in DOCUMENTS if one["kind"] == "DaemonSet"]


def pod(agent: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = agent["spec"]["template"]["spec"]
    return spec


def containers() -> Iterator[dict[str, Any]]:
    for agent in AGENTS:
        yield from pod(agent)["containers"]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_it(version: str) -> None:
    """By the schemas of its own API, strictly: unknown keys are refused."""
    kubernetes = pytest.importorskip(
        "kubernetes_validate", reason="no kubernetes-validate: pip install -e '.[kubernetes]'"
    )
    for document in DOCUMENTS:
        kubernetes.validate(document, version, strict=True)


def test_a_mistake_would_be_found() -> None:
    kubernetes = pytest.importorskip(
        "kubernetes_validate", reason="no kubernetes-validate: pip install -e '.[kubernetes]'"
    )
    text = FILE.read_text().replace("hostNetwork: true", "hostNetworks: true")
    with pytest.raises(kubernetes.ValidationError):
        for document in yaml.safe_load_all(text):
            kubernetes.validate(document, VERSIONS[-1], strict=True)


def test_one_agent_of_each_role() -> None:
    roles = [one["args"][0] for one in containers()]
    assert roles == ["client", "server"]
    for agent, role in zip(AGENTS, roles, strict=True):
        labels = agent["spec"]["template"]["metadata"]["labels"]
        assert agent["spec"]["selector"]["matchLabels"] == labels
        assert labels["app.kubernetes.io/component"] == role


def test_the_agent_understands_its_arguments() -> None:
    for container in containers():
        arguments = parser().parse_args(container["args"])
        assert arguments.interface == ["eth0"] and not arguments.keep
        assert container["readinessProbe"]["exec"]["command"] == ["hawkwing", "drops", arguments.command]


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    (settings,) = [one for one in DOCUMENTS if one["kind"] == "ConfigMap"]
    file = tmp_path / "config.yaml"
    file.write_text(settings["data"]["config.yaml"])
    load_config(file)
    for agent in AGENTS:
        mounts = {one["name"]: one["mountPath"] for one in pod(agent)["containers"][0]["volumeMounts"]}
        config = parser().parse_args(pod(agent)["containers"][0]["args"]).config
        assert config == Path(mounts["config"], *settings["data"])
        volumes = {one["name"]: one for one in pod(agent)["volumes"]}
        assert volumes["config"]["configMap"]["name"] == settings["metadata"]["name"]
        assert volumes["run"]["hostPath"]["path"] == mounts["run"] == "/run/hawkwing"
        assert mounts.keys() == volumes.keys()


def test_no_more_privileges_than_the_units_have() -> None:
    unit = (PROJECT / "packaging/systemd/hawkwing-client@.service").read_text()
    (given,) = re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    for container in containers():
        security = container["securityContext"]
        assert [f"CAP_{name}" for name in security["capabilities"]["add"]] == given.split()
        assert security["capabilities"]["drop"] == ["ALL"]
        assert security["readOnlyRootFilesystem"] and security["allowPrivilegeEscalation"] is False
        assert "privileged" not in security
    for agent in AGENTS:
        assert pod(agent)["hostNetwork"] and not pod(agent)["automountServiceAccountToken"]


def test_the_image_is_that_of_this_version() -> None:
    from hawkwing import __version__

    assert {one["image"] for one in containers()} == {f"hawkwing:{__version__}"}
