"""Files with impairments: what they hold, and one sentence with file, line and key for what is wrong."""

from pathlib import Path

import pytest

from lab.errors import LabError
from lab.impairments import load_impairments
from lab.network import DEFAULT_TOPOLOGY
from lab.topology import load_topology

TOPOLOGY = load_topology(DEFAULT_TOPOLOGY)


def load(folder: Path, text: str) -> dict[str, dict[str, float]]:
    file = folder / "bad.yaml"
    file.write_text(text)
    return load_impairments(file, TOPOLOGY)


def test_values_with_units_of_links_in_either_order(tmp_path: Path) -> None:
    text = """
vpp2-vpp4: {latency: 80ms, bandwidth: 10Mbit, loss: 0.5%}
vpp3-vpp1:
  latency: 500
  loss: 2
"""
    assert load(tmp_path, text) == {
        "vpp2-vpp4": {"latency": 80000, "bandwidth": 10000, "loss": 0.5},
        "vpp1-vpp3": {"latency": 500, "loss": 2.0},
    }
    assert load(tmp_path, "{}\n") == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- vpp2-vpp4\n", "bad.yaml:1: must be a mapping of links, such as vpp2-vpp4: {latency: 80ms}"),
        ("\nvpp2-vpp9: {loss: 1%}\n", "bad.yaml:2: vpp2-vpp9: is not a link, the topology has host-a-site-a"),
        ("vpp2-vpp4: 80ms\n", "bad.yaml:1: vpp2-vpp4: must be a mapping with latency, bandwidth or loss"),
        ("vpp2-vpp4: {}\n", "bad.yaml:1: vpp2-vpp4: must be a mapping with latency, bandwidth or loss"),
        (
            "vpp2-vpp4:\n  latency: 80 parsecs\n",
            "bad.yaml:2: vpp2-vpp4.latency: '80 parsecs' is not a latency: write 80ms, 500us or 1s",
        ),
        (
            "vpp2-vpp4:\n  delay: 1ms\n",
            "bad.yaml:2: vpp2-vpp4.delay: is not a known key, use latency, bandwidth",
        ),
        ("vpp2-vpp4: {loss: 100%}\n", "bad.yaml:1: vpp2-vpp4.loss: latency must be 0 or more, bandwidth 1"),
        (
            "vpp2-vpp4: {bandwidth: 0}\n",
            "bad.yaml:1: vpp2-vpp4.bandwidth: latency must be 0 or more, bandwidth",
        ),
        (
            "vpp2-vpp4: {loss: [1]}\n",
            "bad.yaml:1: vpp2-vpp4.loss: must be one value with a unit, such as 80ms",
        ),
        ("vpp2-vpp4: {loss: true}\n", "bad.yaml:1: vpp2-vpp4.loss: must be one value with a unit"),
        (
            "vpp2-vpp4: {loss: 1%}\nvpp4-vpp2: {loss: 1%}\n",
            "bad.yaml:2: vpp4-vpp2: is the link vpp2-vpp4, which is already listed",
        ),
        ("vpp2-vpp4: [\n", "bad.yaml:1: "),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(LabError) as raised:
        load(tmp_path, text)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"{tmp_path}/{told}")


def test_all_faults_at_once(tmp_path: Path) -> None:
    with pytest.raises(LabError) as raised:
        load(tmp_path, "vpp2-vpp4: {loss: x, latency: y}\nvpp1-vpp9: {}\n")
    assert [line.split(": ")[1] for line in str(raised.value).splitlines()] == [
        "vpp2-vpp4.loss",
        "vpp2-vpp4.latency",
        "vpp1-vpp9",
    ]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"nothing\.yaml"):
        load_impairments(tmp_path / "nothing.yaml", TOPOLOGY)
