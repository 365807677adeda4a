"""Bonds as the driver prints them on real machines, as netlink has them, and what becomes of them; bridges live."""

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import bond, bonding
from collectors.bondevents import edges
from collectors.links import Port
from machine import linkinfo, nla
from machine.linkinfo import LinkInfo
from machine.live import Live
from machine.rtnl import Link
from tests.collectors.test_exporter import expected
from wire.facts import Bond, BondPort, LacpPort
from wire.report import Sample, Severity

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("linuxfabrik-bonding", "telegraf-bond")
DATA = Path(os.environ.get("RACKHAND_DATA", ROOT.parent / "shared" / "data")) / "lldp-bonding"
TEXTS = sorted(path for folder in FOLDERS for path in (DATA / folder).glob("*"))
SWITCH = "64:9d:99:2e:78:a1"
BOTH = ["activity", "aggregation", "synchronization", "collecting", "distributing"]


def port(ifindex: int, name: str, **fields: Any) -> Port:
    return Port(name, Link(ifindex, name, **fields), "", "")


def told(text: str) -> Bond:
    found = bond.parse_told(port(1, "bond0"), bonding.parse_bonding(text), {})
    assert found is not None
    return found


def test_the_texts_of_real_bonds_are_there(data: Path) -> None:
    assert {path.parent.name for path in (data / "lldp-bonding").glob("*bond*/*")} == set(FOLDERS)
    assert TEXTS


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_bond_has_what_its_text_says(path: Path) -> None:
    text = path.read_text()
    found = told(text)
    blocks = re.split(r"^Slave Interface: ", text, flags=re.MULTILINE)
    assert found.mode in bond.MODES
    assert [one.ifname for one in found.ports] == [block.split("\n")[0].strip() for block in blocks[1:]]
    for one, block in zip(found.ports, blocks[1:], strict=True):
        assert f"MII Status: {one.link}\n" in block
        if "pdu:" not in block:
            assert (one.actor, one.partner) == (None, None)
            continue
        actor, partner = block.split("details partner lacp pdu:")
        for end, said in ((one.actor, actor), (one.partner, partner)):
            assert end is not None
            assert f"system priority: {end.system_priority}\n" in said
            assert f"port number: {end.port}\n" in said
            assert f"key: {end.key}\n" in said
            assert f"mac address: {end.system or '00:00:00:00:00:00'}\n" in said
            bits = sum(1 << bonding.LACP_BITS.index(name) for name in end.state or [])
            assert f"port state: {bits}" in said


def test_partners_that_answer_and_partners_that_do_not(data: Path) -> None:
    folder = data / "lldp-bonding/linuxfabrik-bonding"
    good, alone = told((folder / "b4.ok-lacp").read_text()), told((folder / "b4.nok-wo-lacp").read_text())
    assert (good.partner_mac, good.aggregator, good.aggregator_ports) == (SWITCH, 9, 2)
    assert [one.partner.state for one in good.ports if one.partner] == [BOTH, BOTH]
    assert (alone.partner_mac, alone.aggregator_ports) == ("", 1)
    assert [one.actor_churn for one in alone.ports] == ["monitoring", "churned"]
    assert [one.aggregator for one in alone.ports] == [3, 4]


def test_sysfs_knows_the_ports_of_a_bond(exporter: Live, data: Path) -> None:
    slaves = {name: count for (name,), count in expected(data, r'node_bonding_slaves\{master="(\w+)"\}').items()}
    active = {name: count for (name,), count in expected(data, r'node_bonding_active\{master="(\w+)"\}').items()}
    found = [bond.read_sysfs(exporter, port(1, name), {}) for name in slaves]  # the fixture has one ifindex for all
    assert {one.ifname: len(one.ports) for one in found} == slaves
    assert {one.ifname: sum(each.link == "up" for each in one.ports) for one in found} == active


def u32(kind: int, value: int) -> tuple[int, bytes]:
    return kind, struct.pack("=I", value)


def test_netlink_has_the_same_without_the_partners_port() -> None:
    aggregate = nla.attr(1, b"\x07\0") + nla.attr(2, b"\x02\0") + nla.attr(3, b"\x0f\0") + nla.attr(4, b"\x01\0")
    data = dict([(1, b"\x04"), u32(2, 0), u32(3, 100), u32(4, 200), u32(5, 0), u32(7, 0), (14, b"\x01"), u32(18, 1)])
    data |= {21: b"\x01", 22: b"\0", 23: aggregate + nla.attr(5, bytes.fromhex(SWITCH.replace(":", "")))}
    lower = dict([(1, b"\0"), (2, b"\0"), u32(3, 6), (5, b"\0\0"), (6, b"\x07\0"), (7, b"\x3d"), (8, b"\x3d\0")])
    worse = lower | {1: b"\1", 2: b"\2", 7: b"\x45", 8: b"\x01\0", 11: b"\1", 12: b"\2"}
    ports = {1: port(1, "bond0", kind="bond"), 2: port(2, "eth0", master=1), 3: port(3, "eth1", master=1)}
    infos = {1: LinkInfo("bond", data, "", {}), 2: LinkInfo("", {}, "bond", lower), 3: LinkInfo("", {}, "bond", worse)}
    assert bond.parse_bond(ports[1], ports, infos) == Bond(
        key="bond0",
        ifname="bond0",
        mode="802.3ad",
        xmit_hash="layer3+4",
        miimon_ms=100,
        arp_interval_ms=0,
        up_delay_ms=200,
        down_delay_ms=0,
        min_links=1,
        lacp_rate="fast",
        ad_select="stable",
        aggregator=7,
        aggregator_ports=2,
        actor_key=15,
        partner_key=1,
        partner_mac=SWITCH,
        ports=[
            BondPort(
                ifname="eth0",
                key="eth0",
                state="active",
                link="up",
                aggregator=7,
                actor=LacpPort(state=["activity", *BOTH[1:]]),
                partner=LacpPort(state=BOTH),
            ),
            BondPort(
                ifname="eth1",
                key="eth1",
                state="backup",
                link="down",
                aggregator=7,
                actor=LacpPort(state=["activity", "aggregation", "defaulted"]),
                partner=LacpPort(state=["activity"]),
                actor_churn="churned",
                partner_churn="none",
            ),
        ],
    )


def test_other_modes_have_no_aggregator_and_newer_numbers_are_kept() -> None:
    data = dict([(1, b"\x01"), u32(2, 2), u32(3, 100), (14, b"\x63")])
    data |= {21: b"\0", 22: b"\0", 23: nla.attr(1, b"\x07\0")}
    ports = {1: port(1, "bond0", kind="bond"), 2: port(2, "eth0", master=1)}
    infos = {1: LinkInfo("bond", data, "", {}), 2: LinkInfo("", {}, "bond", {2: b"\x09", 6: b"\1\0", 7: b"\0"})}
    found = bond.parse_bond(ports[1], ports, infos)
    assert (found.mode, found.active, found.xmit_hash) == ("active-backup", "eth0", "99")
    assert (found.aggregator, found.lacp_rate, found.partner_mac) == (None, "", "")
    assert found.ports == [BondPort(ifname="eth0", key="eth0", link="9")]


# -- what happened -----------------------------------------------------------------------------------------------------


def lacp(partner: str = SWITCH, active: str = "", **links: str) -> Bond:
    ports = [BondPort(ifname=name, key=f"k-{name}", link=link) for name, link in links.items()]
    return Bond(key="bond0", ifname="bond0", mode="802.3ad", partner_mac=partner, active=active, ports=ports)


def happened(was: Bond, now: Bond) -> list[tuple[str, Severity, str]]:
    return [(one.kind, one.severity, one.text) for one in edges({"bond0": was}, {"bond0": now})]


def test_ports_that_fall_and_rise_join_and_leave() -> None:
    both = lacp(a="up", b="up")
    assert happened(both, both) == []
    assert happened(both, lacp(a="up", b="down")) == [
        ("bond.port_down", Severity.WARNING, "bond0: b is down, 1 of 2 ports up")
    ]
    assert happened(lacp(a="up", b="down"), both) == [
        ("bond.port_up", Severity.INFO, "bond0: b is up, 2 of 2 ports up")
    ]
    assert [kind[:2] for kind in happened(both, lacp(a="going down", b="down"))] == [
        ("bond.port_down", Severity.CRITICAL)
    ] * 2
    assert [kind[0] for kind in happened(both, lacp(a="up"))] == ["bond.port_left"]
    assert [kind[0] for kind in happened(lacp(a="up"), both)] == ["bond.port_joined"]
    assert list(edges({}, {"bond0": both})) == []
    assert list(edges({"bond0": both}, {})) == []


@pytest.mark.parametrize(
    ("was", "now", "kind", "severity"),
    [
        (SWITCH, "", "bond.partner_lost", Severity.WARNING),
        ("", SWITCH, "bond.partner_found", Severity.INFO),
        (SWITCH, "02:00:00:00:00:01", "bond.partner_changed", Severity.WARNING),
    ],
)
def test_partners_that_go_come_and_change(was: str, now: str, kind: str, severity: Severity) -> None:
    ((found, how, text),) = happened(lacp(was, a="up"), lacp(now, a="up"))
    assert (found, how) == (kind, severity)
    assert (was or now) in text


def test_another_port_takes_over() -> None:
    ((kind, severity, text),) = happened(lacp(active="a", a="up", b="up"), lacp(active="b", a="up", b="up"))
    assert (kind, severity, text) == ("bond.failover", Severity.WARNING, "bond0: b is active now, a was")


def test_the_first_look_at_a_machine_tells_no_news(exporter: Live) -> None:
    again = Live(exporter.root)
    assert [item for item in bond.collect(again) if not isinstance(item, (Bond, Sample))] == []


@given(st.text() | st.lists(st.sampled_from([*TEXTS[0].read_text().splitlines(), "\x1b[2J: x", ":"])).map("\n".join))
def test_any_text_is_a_bond_or_none(text: str) -> None:
    found = bond.parse_told(port(1, "bond0"), bonding.parse_bonding(text), {})
    if found is not None:
        assert all(value.isprintable() for value in re.findall(r'"((?:[^"\\]|\\.)*)"', json.dumps(msgspec_json(found))))


def msgspec_json(found: Bond) -> Any:
    return msgspec.to_builtins(found)


@given(st.dictionaries(st.integers(0, 40), st.binary(max_size=12)))
def test_attributes_of_any_length_are_numbers(attributes: dict[int, bytes]) -> None:
    ports = {1: port(1, "br0", kind="bridge"), 2: port(2, "eth0", master=1), 3: port(3, "v", kind="vlan", link=2)}
    infos = {
        1: LinkInfo("bridge", attributes, "", {}),
        2: LinkInfo("", {}, "bridge", attributes),
        3: LinkInfo("vlan", attributes, "", {}),
    }
    (found,) = bond.parse_bridges(ports, infos)
    assert [one.ifname for one in found.ports] == ["eth0"]
    assert len(list(bond.parse_vlans(ports, infos))) == (linkinfo.VLAN_ID in attributes)


# -- live --------------------------------------------------------------------------------------------------------------

PROBE = """
import msgspec
from collectors import bond
from machine.live import Live
print(msgspec.json.encode(list(bond.collect(Live()))).decode())
"""


def octets(bridge_id: str) -> list[int]:
    """`ip` writes `8000.a:cd:...` where the kernel has 0a."""
    return [int(part, 16) for part in re.split("[.:]", bridge_id)]


@pytest.mark.root
def test_a_bridge_is_as_ip_says(namespace: str) -> None:
    def ip(*arguments: str) -> str:
        command = ["ip", "-n", namespace, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    ip("link", "add", "br0", "type", "bridge", "stp_state", "1", "ageing_time", "6000")
    for name in ("ve0", "ve2"):
        ip("link", "add", name, "type", "veth", "peer", "name", f"{name}p")
        ip("link", "set", name, "master", "br0", "up")
        ip("link", "set", f"{name}p", "up")
    ip("link", "set", "ve2", "type", "bridge_slave", "isolated", "on", "cost", "77")
    ip("link", "set", "br0", "up")
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", PROBE]
    (found,) = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)
    links = {link["ifname"]: link["linkinfo"] for link in json.loads(ip("-j", "-d", "link")) if "linkinfo" in link}
    said = links["br0"]["info_data"]
    assert (found["kind"], found["stp"]) == ("bridge", "kernel")
    assert octets(found["bridge_id"]) == octets(said["bridge_id"])
    assert octets(found["root_id"]) == octets(said["root_id"])
    assert found["ageing_s"] == said["ageing_time"] / 100 == 60.0
    ports = {one["ifname"]: one for one in found["ports"]}
    for name in ("ve0", "ve2"):
        slave = links[name]["info_slave_data"]
        assert ports[name]["cost"] == slave["cost"]
        assert ports[name].get("isolated", False) is slave["isolated"]
        assert ports[name]["state"] in bond.BRIDGE_STATES
    assert ports["ve2"]["cost"] == 77
