"""What an agent tells about real maps: each value of `hawkwing status --json` that is read from them."""

from __future__ import annotations

import asyncio
import time
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from hawkwing import status
from hawkwing.config import Config, load_config
from hawkwing.csid import Block
from hawkwing.dataplane.layout import limits
from hawkwing.dataplane.loader import Capacities
from hawkwing.labels import NO_LABELS, Labels
from hawkwing.steering import Steering
from tests.dataplane import packets as p
from tests.dataplane.scene import HOST_A, HOST_B, LOCAL_PORT, SIDS, Host
from tests.schemas import assert_as_described

OTHER = IPv6Address("fcbb:cc00:2::b")
SERVICES = f"""
hawkeye: {{enabled: true, address: "fd00::9", port: 5001}}
csid: {{block: "fcbb:bb00::/32"}}
services:
  web:
    ipv6_addresses: ["{HOST_B}", "{OTHER}"]
    applications:
      - port: 80
        sid: ["fcbb:bb00:1::", "fcbb:bb00:2::"]
        intents: [{{intent: low-latency, max_value: 20}}]
      - {{port: 81, intents: [{{intent: low-jitter}}]}}
  mail:
    domain_name: mail.example
    applications:
      - {{port: 25, sid: ["fcbb:bb00:3::"]}}
  news:
    domain_name: news.example
    applications:
      - {{port: 119, sid: ["fcbb:bb00:3::"]}}
"""


def steering_of(client: Host, folder: Path) -> Steering:
    file = folder / "c.yaml"
    file.write_text(SERVICES)
    config = load_config(file)
    client.bench.plane.set_csid([Block(IPv6Network("fcbb:bb00::/32"))])
    steering = Steering(client.bench.plane)
    steering.apply(config, HOST_A)
    return steering


def datagram(source: IPv6Address, destination: IPv6Address, port: int) -> bytes:
    return p.ipv6(source, destination, p.UDP, p.udp(source, destination, LOCAL_PORT, port))


def test_a_client_tells_each_application_with_its_path_and_what_was_sent_over_it(
    client: Host, tmp_path: Path
) -> None:
    steering = steering_of(client, tmp_path)
    try:
        for destination, port in ((HOST_B, 80), (OTHER, 80), (HOST_B, 81)):
            client.bench.run("egress", datagram(HOST_A, destination, port))
        told = list(status.of_steering(client.bench.plane, steering, NO_LABELS))
        for one in told:
            assert_as_described(one, "Binding")
        assert [(one["address"], one["port"]) for one in told] == [
            (str(HOST_B), 80),
            (str(HOST_B), 81),
            (str(OTHER), 80),
            (str(OTHER), 81),
        ]
        web, pathless, same, _ = told
        assert (web["service"], web["intents"], web["origin"]) == ("web", ["low-latency(max 20)"], "backup")
        assert web["sids"] == ["fcbb:bb00:1::", "fcbb:bb00:2::"]
        assert web["segments"] == ["fcbb:bb00:1:2::"]
        assert web["source"] == str(HOST_A)
        assert abs(web["since"] - time.time()) < 60
        assert (
            web["path_sent"]
            == same["path_sent"]
            == {"packets": 2, "bytes": 2 * len(datagram(HOST_A, HOST_B, 80))}
        )
        assert (pathless["origin"], pathless["sids"], pathless["segments"]) == ("none", [], [])
        assert pathless["path_sent"] == {"packets": 0, "bytes": 0}
    finally:
        client.bench.plane.set_csid([])


def test_where_there_are_labels_paths_are_told_by_names_too(client: Host, tmp_path: Path) -> None:
    labels = Labels({IPv6Address("fcbb:bb00:1::"): "vpp1"}, [Block(IPv6Network("fcbb:bb00::/32"))])
    steering = steering_of(client, tmp_path)
    try:
        told = next(iter(status.of_steering(client.bench.plane, steering, labels)))
    finally:
        client.bench.plane.set_csid([])
    assert_as_described(told, "Binding")
    assert told["nodes"] == ["vpp1", "fcbb:bb00:2::"]


def test_a_client_tells_each_path_that_flows_of_an_application_have(client: Host, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    upper, lower = SIDS[:2], SIDS[2:3]
    paths = f"{{sid: ['{upper[0]}', '{upper[1]}'], weight: 3}}, {{sid: ['{lower[0]}']}}"
    web = f"{{ipv6_addresses: ['{HOST_B}'], applications: [{{port: 80, paths: [{paths}]}}]}}"
    file.write_text(f"services: {{web: {web}}}\n")
    bench = client.bench
    steering = Steering(bench.plane)
    steering.apply(load_config(file), None)
    frames = [p.ipv6(HOST_A, HOST_B, p.UDP, p.udp(HOST_A, HOST_B, port, 80)) for port in range(4000, 4020)]
    for frame in frames:
        assert "STEERED" in bench.run("egress", frame).counted
    (told,) = status.of_steering(bench.plane, steering, NO_LABELS)
    assert_as_described(told, "Binding")
    active = told["active"]
    assert [(one["sids"], one["share_percent"]) for one in active] == [
        ([str(sid) for sid in upper], 75.0),
        ([str(sid) for sid in lower], 25.0),
    ]
    assert sum(one["sent"]["packets"] for one in active) == len(frames)
    assert sum(one["sent"]["bytes"] for one in active) == len(frames) * len(frames[0])
    assert [one["health"]["state"] for one in active] == ["unknown", "unknown"]
    (named,) = status.of_steering(bench.plane, steering, Labels({lower[0]: "vpp3"}))
    assert named["active"][1]["nodes"] == ["vpp3"]
    steering.apply(Config(), None)


def test_a_client_tells_which_names_have_no_address_yet(client: Host, tmp_path: Path) -> None:
    steering = steering_of(client, tmp_path)
    try:
        failed = {"news.example": "no AAAA record"}
        assert status.of_names(steering, failed.get) == [
            {"service": "mail", "name": "mail.example", "error": None},
            {"service": "news", "name": "news.example", "error": "no AAAA record"},
        ]
        steering.learn("mail.example", [IPv6Address("fcbb:cc00:2::25")], 60.0)
        found = status.of_names(steering, failed.get)
        assert [one["name"] for one in found] == ["news.example"]
        (mail,) = (
            one
            for one in status.of_steering(client.bench.plane, steering, NO_LABELS)
            if one["service"] == "mail"
        )
        assert mail["source"] is None, "no controller is asked without intents"
    finally:
        client.bench.plane.set_csid([])


def test_a_data_plane_tells_its_domain_its_blocks_and_what_became_of_packets(host: Host) -> None:
    bench = host.bench
    bench.reset(["fcbb::/16", "fd00::/8"])
    bench.plane.set_csid([Block(IPv6Network("fcbb:bb00::/32"))])
    try:
        bench.local(host.here)
        frame = datagram(host.here, IPv6Address("fcbb:cc00:9::9"), 80)
        reason = "NO_SERVICE" if bench.role == "client" else "NO_FLOW"
        before = bench.plane.counters()["egress"].get(reason)
        assert bench.run("egress", frame).counted == {reason: 1}
        told = status.of_data_plane(bench.plane)
    finally:
        bench.plane.set_csid([])
    after = told["counters"]["egress"][reason]
    packets, size = before if before is not None else (0, 0)
    assert after == {"packets": packets + 1, "bytes": size + len(frame)}
    assert set(told["counters"]) == {"egress", "ingress"}
    assert told["sr_domain"] == ["fcbb::/16", "fd00::/8"]
    assert told["trusted"] == "accepts SRHs whose source and segments are in fcbb::/16 or fd00::/8"
    assert told["csid_blocks"] == ["fcbb:bb00::/32"]
    assert ("flows" in told) == (bench.role == "server")


def test_a_server_tells_its_flows_and_its_reverse_paths_with_what_was_sent_over_them(server: Host) -> None:
    bench = server.bench
    plane = bench.plane
    packed = IPv6Address("fcbb:bb00:1:2::")
    bench.learn(HOST_A, HOST_B, p.UDP, 80, LOCAL_PORT, [packed])
    bench.learn(HOST_A, HOST_B, p.UDP, 81, LOCAL_PORT, SIDS[:2])
    bench.learn(HOST_A, HOST_B, p.UDP, 82, LOCAL_PORT, SIDS[:2])
    plane.set_csid([Block(IPv6Network("fcbb:bb00::/32"))])
    try:
        frame = datagram(HOST_B, HOST_A, 81)
        assert bench.run("egress", frame).counted == {"STEERED": 1}
        told = asyncio.run(status.of_learned_paths(plane, NO_LABELS))
        labels = Labels({IPv6Address("fcbb:bb00:1::"): "vpp1"}, plane.csid)
        named = asyncio.run(status.of_learned_paths(plane, labels))
    finally:
        plane.set_csid([])
    for one in told["paths"]:
        assert_as_described(one, "LearnedPath")
    (by_name,) = (one for one in named["paths"] if one["segments"] == [str(packed)])
    assert_as_described(by_name, "LearnedPath")
    assert by_name["nodes"] == ["vpp1", "fcbb:bb00:2::"]
    paths = {tuple(one["segments"]): one for one in told["paths"]}
    assert set(paths) == {(str(packed),), tuple(map(str, SIDS[:2]))}
    assert paths[str(packed),]["sids"] == ["fcbb:bb00:1::", "fcbb:bb00:2::"]
    used = paths[tuple(map(str, SIDS[:2]))]
    assert (used["packets"], used["bytes"]) == (1, len(frame))
    assert told["learned_paths"] == {"count": 2, "capacity": plane.maps["policies"].info.max_entries - 1}
    flows = status.of_data_plane(plane)["flows"]
    assert flows["count"] == 3
    room = Capacities().flows
    assert room <= flows["capacity"] < room + limits()["HW_WAYS"], "rounded up to whole buckets"
