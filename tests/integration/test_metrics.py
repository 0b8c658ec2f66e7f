"""`--metrics`: what Prometheus would read of agents in the lab, from this host only."""

from prometheus_client.parser import text_string_to_metric_families

from lab.network import Lab

from .conftest import Agents
from .onwire import A, B
from .test_steering import BY_ADDRESS, http


def scraped(lab: Lab, host: str) -> dict[str, float]:
    """Each sample's value, its labels in the name."""
    told = lab.execute(host, ["curl", "-sS", "-g", "http://[::1]:9470/metrics"]).stdout
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(told)
        for sample in family.samples
    }


def test_both_agents_tell_what_they_have_done(lab: Lab, agents: Agents) -> None:
    agents.server("host-b", "--metrics", "9470")
    agents.client(BY_ADDRESS, "host-a", "--metrics", "9470")
    http(lab, f"http://[{B}]/")
    client, server = scraped(lab, "host-a"), scraped(lab, "host-b")
    assert sum(value for name, value in client.items() if name.startswith("hawkwing_path_packets")) >= 4
    assert (
        sum(value for name, value in client.items() if name.startswith("hawkwing_packets_total egress")) >= 4
    )
    assert server["hawkwing_flows"] >= 1
    assert server["hawkwing_learned_paths"] == 1
    for told in (client, server):
        assert {value for name, value in told.items() if name.startswith("hawkwing_attached ")} == {1}
    refused = lab.execute(
        "host-b", ["curl", "-sS", "-g", "-m", "5", f"http://[{A}]:9470/metrics"], check=False
    )
    assert refused.returncode == 7, "connection refused"


def test_without_the_option_nothing_listens(lab: Lab, agents: Agents) -> None:
    agents.client(BY_ADDRESS, "host-a")
    assert lab.execute("host-a", ["curl", "-sS", "-g", "http://[::1]:9470/"], check=False).returncode == 7
