"""The collectors on this machine's kernel, against what its own tools say of the same interfaces."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from collectors.registry import ALL, by_name
from collectors.run import run
from machine.live import Live
from tests.agent.brokers import wait_for
from wire.cpulist import parse_cpulist
from wire.facts import Cpu, Dmi, Irq, Memory, Nic, Numa, Softnet
from wire.report import Status

ROOT = Path(__file__).resolve().parents[2]
KINDS = {  # kinds that a kernel may lack, and how to make one; the ones it lacks are not looked for
    "bond0": ["type", "bond", "mode", "active-backup"],
    "dum0": ["type", "dummy"],
    "ve0.7": ["link", "ve0", "type", "vlan", "id", "7"],
    "mv0": ["link", "ve0", "type", "macvlan"],
}
PROBE = """
import json, msgspec
from collectors.registry import by_name
from collectors.run import run
from machine.live import Live
machine = Live()
found = {name: run(by_name(name), machine, 0) for name in ("nic", "ethtool", "queues", "nicstats", "irq")}
print(json.dumps({name: [r.status, r.reason, [json.loads(msgspec.json.encode(f)) for f in r.facts],
    [json.loads(msgspec.json.encode(s)) for s in r.samples]] for name, r in found.items()}))
"""


def test_every_collector_is_sane_or_absent_here() -> None:
    machine = Live()
    results = {collector.NAME: run(collector, machine, 1) for collector in ALL}
    failed = {name: r.reason for name, r in results.items() if r.status not in (Status.OK, Status.ABSENT)}
    if os.geteuid() != 0 and failed.get("dimm", "").startswith("DeniedError: "):
        del failed["dimm"]  # only root reads SMBIOS tables
    assert failed == {}
    facts = [fact for result in results.values() for fact in result.facts]
    (system,) = [fact for fact in facts if isinstance(fact, Dmi)]
    (cpus,) = [fact for fact in facts if isinstance(fact, Cpu)]
    (main,) = [fact for fact in facts if isinstance(fact, Memory)]
    (backlog,) = [fact for fact in facts if isinstance(fact, Softnet)]
    assert system.kernel == os.uname().release
    assert system.arch == os.uname().machine
    assert cpus.threads == len(parse_cpulist(cpus.online)) == os.sysconf("SC_NPROCESSORS_ONLN")
    assert main.total_kb > 100_000
    assert (backlog.netdev_budget or 0) > 0
    nodes = {thread.node for thread in cpus.cpus} - {None}
    assert nodes <= {fact.node for fact in facts if isinstance(fact, Numa)}


def test_links_here_are_those_of_ip() -> None:
    links = json.loads(subprocess.run(["ip", "-j", "-d", "link"], check=True, capture_output=True).stdout)
    found = {fact.ifname: fact for fact in run(by_name("nic"), Live(), 1).facts if isinstance(fact, Nic)}
    assert {link["ifname"]: (link["ifindex"], link["mtu"], link["address"]) for link in links} == {
        name: (fact.ifindex, fact.mtu, fact.mac) for name, fact in found.items()
    }


def test_vectors_of_nics_here_are_live_and_placed() -> None:
    result = run(by_name("irq"), Live(), 1)
    for fact in result.facts:
        assert isinstance(fact, Irq)
        assert fact.source in ("netdev-genl", "action-name", "unmapped")
        for queue in fact.queues:
            assert Path(f"/proc/irq/{queue.irq}").is_dir()
            assert parse_cpulist(queue.effective)
    assert [sample.key for sample in result.samples] == [fact.key for fact in result.facts]


class Space:
    """A namespace with the interfaces that this kernel can make, and what the collectors and tools say in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.made = {"ve0", "ve1", "br0"}
        self.ip("link", "add", "ve0", "numrxqueues", "4", "numtxqueues", "4", "type", "veth", "peer", "name", "ve1")
        self.ip("link", "add", "br0", "type", "bridge")
        self.ip("link", "set", "ve1", "master", "br0")
        for link, how in KINDS.items():
            where = how[:2] if how[0] == "link" else []
            if (
                subprocess.run(
                    self.command("link", "add", *where, "name", link, *how[len(where) :]), check=False
                ).returncode
                == 0
            ):
                self.made.add(link)
        for link in ("ve0", "ve1", "br0"):
            self.ip("link", "set", link, "up")
        wait_for(
            lambda: all(link["operstate"] == "UP" for link in self.links() if link["ifname"] in ("ve0", "ve1", "br0"))
        )

    def links(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ip("-j", "-d", "link"))
        return found

    def command(self, *arguments: str) -> list[str]:
        return ["ip", "-n", self.name, *arguments]

    def ip(self, *arguments: str) -> str:
        return subprocess.run(self.command(*arguments), check=True, capture_output=True, text=True).stdout

    def inside(self, *argv: str) -> str:
        command = ["ip", "netns", "exec", self.name, *argv]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout

    def collect(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.inside(sys.executable, "-c", PROBE))
        return found


@pytest.fixture
def space(namespace: str) -> Space:
    return Space(namespace)


@pytest.mark.root
def test_interfaces_of_every_kind_are_as_ip_says(space: Space) -> None:
    links = {link["ifname"]: link for link in space.links()}
    status, reason, facts, _ = space.collect()["nic"]
    assert (status, reason) == ("ok", "")
    found = {fact["ifname"]: fact for fact in facts}
    assert set(found) == set(links) == {"lo", *space.made}
    for name, link in links.items():
        fact = found[name]
        assert (fact["ifindex"], fact["mtu"]) == (link["ifindex"], link["mtu"])
        assert fact.get("master", "") == link.get("master", "")
        assert fact.get("up", False) == ("UP" in link["flags"])
        assert fact["type"] == ("loopback" if name == "lo" else link["linkinfo"]["info_kind"])
        assert fact["key"] == name
        assert fact["operstate"] == link["operstate"].lower()
        below = link.get("link", "") if fact["type"] in ("vlan", "macvlan") else ""
        assert below == "" or fact["lower"] == [below]
    assert found["br0"]["lower"] == ["ve1"]
    assert "lower" not in found["ve0"]
    if "ve0.7" in found:
        assert found["ve0.7"]["vlan_id"] == 7
    if "bond0" in found:
        assert found["bond0"]["bond_mode"] == "active-backup"


@pytest.mark.root
def test_steering_is_read_as_it_was_written(space: Space) -> None:
    queues = "/sys/class/net/ve0/queues"
    steer = (
        f"echo 3 > {queues}/rx-1/rps_cpus && echo 256 > {queues}/rx-1/rps_flow_cnt && echo 2 > {queues}/tx-2/xps_cpus"
    )
    space.inside("sh", "-c", steer)
    (fact,) = [fact for fact in space.collect()["queues"][2] if fact["ifname"] == "ve0"]
    assert fact["rps_cpus"] == ["", "0-1", "", ""]
    assert fact["rps_flow_cnt"] == [0, 256, 0, 0]
    assert fact["xps_cpus"] == ["", "", "1", ""]


@pytest.mark.root
def test_channels_and_features_are_what_the_driver_says(space: Space) -> None:
    (fact,) = [fact for fact in space.collect()["ethtool"][2] if fact["ifname"] == "ve0"]
    assert (fact["channels"]["rx"], fact["channels"]["rx_max"]) == (4, 4)
    assert fact["features"]["tx-generic-segmentation"] is True
    assert "tx-generic-segmentation" not in fact["features_fixed"]
    assert set(fact["features_fixed"]) <= set(fact["features"])


@pytest.mark.root
def test_counters_are_those_of_ip_and_irqs_are_absent(space: Space) -> None:
    found = space.collect()
    links = {link["ifname"]: link["stats64"] for link in json.loads(space.ip("-j", "-s", "link"))}
    samples = {(metric, key): value for metric, key, value in found["nicstats"][3]}
    assert {key for _, key in samples} == set(links) - {"lo"}
    for name in ("ve1", "br0"):
        assert samples["nicstats.rx_errors", name] == links[name]["rx"]["errors"]
        assert 0 <= samples["nicstats.tx_packets", name] <= links[name]["tx"]["packets"]
    assert found["irq"][:2] == ["absent", "no NIC has an interrupt of its own"]
