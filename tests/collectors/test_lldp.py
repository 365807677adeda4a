"""lldpd's JSON as neighbours, and ports that hear, hear nothing or are made deaf by their NIC's firmware."""

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collectors import lldp
from collectors.links import Port
from collectors.lldp_daemon import MOST, parse_neighbours
from machine import DeniedError, MachineError, NotPresentError, Reply, nla
from machine.rtnl import Link
from tests.collectors.lldp_frames import HOSTILE, frame, harmless, org, said
from wire.facts import Lldp


def one(value: object) -> list[dict[str, object]]:
    return [{"value": value}]


def daemon(**changes: Any) -> str:
    """lldpcli's json0 of version 1.0.16, of one neighbour on eth0."""
    heard: dict[str, Any] = {
        "name": "eth0", "via": "LLDP", "rid": "1", "age": "0 day, 00:00:05",
        "chassis": [{
            "id": [{"type": "mac", "value": "00:1C:73:B3:AF:BB"}], "name": one("sw1"), "descr": one("EOS\nversion 4"),
            "mgmt-ip": [*one("192.0.2.1"), *one("2001:db8::1")], "mgmt-iface": one("5"),
            "capability": [{"type": "Bridge", "enabled": True}, {"type": "Router", "enabled": False}],
        }],
        "port": [{
            "id": [{"type": "ifname", "value": "Ethernet3"}], "descr": one("to srv1"), "ttl": one("120"),
            "mfs": one("9236"), "aggregation": one("9"),
            "auto-negotiation": [{"supported": True, "enabled": True, "current": one("1000BaseTFD - Four-pair")}],
            "power": [{"supported": True, "enabled": True, "device-type": one("PSE"), "class": one("class 4")}],
        }],
        "vlan": [{"vlan-id": "300", "pvid": True, "value": "storage"}, {"vlan-id": "301", "value": "lab"}],
        "lldp-med": [{"device-type": one("Network"), "inventory": [{"model": one("DCS-7050")}]}],
    }  # fmt: skip
    return json.dumps({"lldp": [{"interface": [{**heard, **changes}]}]})


def test_what_lldpd_says_is_what_the_frame_says() -> None:
    (found,) = parse_neighbours(daemon())
    assert (found.port, found.source) == ("eth0", "lldpd")
    assert said(found) == {
        "port": "eth0", "chassis_subtype": "mac", "chassis_id": "00:1c:73:b3:af:bb", "port_subtype": "ifname",
        "port_id": "Ethernet3", "port_description": "to srv1", "system_name": "sw1",
        "system_description": "EOS version 4", "capabilities": ["bridge"], "management": ["192.0.2.1", "2001:db8::1"],
        "ttl_s": 120, "pvid": 300, "vlans": {"300": "storage", "301": "lab"}, "lag": True, "lag_port": 9,
        "max_frame_bytes": 9236, "autoneg": True, "mau": "1000BaseTFD", "power": "PSE class 4",
        "med": {"model": "DCS-7050"},
    }  # fmt: skip


def test_lldpds_older_and_shorter_words_are_understood() -> None:
    older = {
        "via": "LLDP",
        "chassis": {"sw1": {"id": {"type": "mac", "value": "00:1c:73:b3:af:bb"}, "ttl": "120", "mgmt-ip": "192.0.2.1",
                            "capability": {"type": "Bridge", "enabled": "on"}}},
        "port": {"id": {"type": "local", "value": "512"}, "descr": "xe-0/0/1"},
        "vlan": {"vlan-id": "300", "pvid": "yes"},
    }  # fmt: skip
    (found,) = parse_neighbours(json.dumps({"lldp": {"interface": {"eth0": older}}}))
    assert said(found) == {
        "port": "eth0", "chassis_subtype": "mac", "chassis_id": "00:1c:73:b3:af:bb", "port_subtype": "local",
        "port_id": "512", "port_description": "xe-0/0/1", "system_name": "sw1", "capabilities": ["bridge"],
        "management": ["192.0.2.1"], "ttl_s": 120, "pvid": 300,
    }  # fmt: skip


def test_other_protocols_and_nobody_are_left_out() -> None:
    assert parse_neighbours(daemon(via="CDPv2")) == []
    assert parse_neighbours('{"lldp": [{}]}') == parse_neighbours('{"lldp": []}') == parse_neighbours("[]") == []
    assert parse_neighbours(daemon(chassis=[], port=[])) == []


@pytest.mark.parametrize("text", ["", "lldpcli: nobody", "{", "[" * 100_000])
def test_what_is_no_json_is_one_line_of_error(text: str) -> None:
    with pytest.raises(MachineError) as error:
        parse_neighbours(text)
    assert len(str(error.value).splitlines()) == 1


def test_a_hostile_neighbour_of_lldpd_is_harmless_too() -> None:
    text = HOSTILE.decode(errors="replace")
    whole = json.loads(daemon())

    def poisoned(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: text if name in ("value", "type") else poisoned(inner) for name, inner in value.items()}
        return [poisoned(inner) for inner in value] if isinstance(value, list) else value

    (found,) = parse_neighbours(json.dumps(poisoned(whole)))
    assert harmless(found)
    many = json.dumps({"lldp": [{"interface": json.loads(daemon())["lldp"][0]["interface"] * (MOST + 1)}]})
    assert len(parse_neighbours(many)) == MOST


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["lldp", "interface", "name", "via", "chassis", "port", "id", "type", "value", "vlan", "vlan-id", "pvid",
             "mgmt-ip", "capability", "enabled", "ttl", "power", "device-type", "class", "supported", "inventory",
             "lldp-med", "serial", "descr", "mfs", "aggregation", "auto-negotiation", "current", "eth0"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=40,
)  # fmt: skip


@given(JSON)
@example({"lldp": [{"interface": [{"chassis": [{"id": [{"value": 7}]}], "port": {"id": {"type": None}}}]}]})
def test_whatever_json_says_it_is_neighbours(value: Any) -> None:
    wrapped = {"lldp": [{"interface": value}]}
    for text in (json.dumps(value), json.dumps(wrapped)):
        assert all(harmless(found) for found in parse_neighbours(text))


# -- ports --


class Box:
    """A machine of a few ports, told by what the collector asks."""

    def __init__(self, files: dict[str, str], frames: Sequence[Reply] | MachineError = (), said: str = "") -> None:
        self.files, self.frames, self.said = files, frames, said
        self.joined: list[int] = []

    def read(self, path: str) -> str:
        if path not in self.files:
            raise NotPresentError(path)
        return self.files[path]

    def target(self, path: str) -> str:
        return self.read(path)

    def lldp_frames(self, ifindexes: Collection[int]) -> list[Reply]:
        self.joined = list(ifindexes)
        if isinstance(self.frames, MachineError):
            raise self.frames
        return list(self.frames)

    def command(self, name: str, *words: str) -> str:
        assert (name, words) == ("lldpcli", ("-f", "json0", "show", "neighbors", "details"))
        if not self.said:
            raise MachineError("lldpcli: unable to connect to socket /run/lldpd.socket")
        return self.said

    def genl(self, family: str, command: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        assert (family, command, nla.table(payload)[1], dump) == ("ethtool", 13, b"", True)
        return [Reply(13, privflags(3, {"link-down-on-close": True, "disable-fw-lldp": False}))]


def privflags(ifindex: int, flags: dict[str, bool]) -> bytes:
    """ETHTOOL_MSG_PRIVFLAGS_GET_REPLY, as the kernel's verbose bitset has it."""
    bits = b"".join(
        nla.nest(1, nla.u32(1, number) + nla.attr(2, name.encode() + b"\0") + (nla.attr(3, b"") if on else b""))
        for number, (name, on) in enumerate(flags.items())
    )
    bitset = nla.u32(2, len(flags)) + nla.nest(3, bits)
    return nla.nest(1, nla.u32(1, ifindex) + nla.attr(2, b"eth1\0")) + nla.nest(2, bitset)


def port(number: int, **more: Any) -> Port:
    mac = f"52:54:00:00:00:0{number}"
    link = Link(ifindex=number + 2, ifname=f"eth{number}", up=True, carrier=True, hwtype=1, mac=mac, perm_mac=mac)
    return Port(mac, msgspec.structs.replace(link, **more), "/sys/devices/x", "")


PORTS = [port(0), port(1)]
FILES = {
    "/proc/sys/kernel/hostname": "srv1",
    "/proc/sys/kernel/osrelease": "6.1.0-13-amd64",
    "/sys/class/net/eth1/device/driver": "../../bus/pci/drivers/i40e",
    "/proc/net/unix": "Num RefCount\n00000000: 00000002 00000000 00010000 0001 01 1234 /run/user/x",
}
RUNNING = {**FILES, "/proc/net/unix": "0000: 00000002 00000000 00010000 0001 01 16342 /run/lldpd.socket"}


@pytest.fixture
def two_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lldp, "read_own_ports", lambda _machine: PORTS)


def collected(machine: Any) -> list[Lldp]:
    return list(lldp.collect(machine))


@pytest.mark.usefixtures("two_ports")
def test_a_port_hears_or_is_deaf() -> None:
    first, second = frame(), frame(chassis=b"\x07other")
    heard, more, deaf = collected(Box(FILES, [Reply(2, first), Reply(2, second), Reply(9, first), Reply(2, b"?")]))
    assert (heard.key, heard.port_key, heard.port, heard.source, heard.state) == (
        PORTS[0].key, "", "eth0", "frames", "heard",
    )  # fmt: skip
    assert (more.key, more.port_key, more.chassis_id) == (f"{PORTS[0].key}#2", PORTS[0].key, "other")
    assert (heard.local_system_name, heard.local_mac, heard.local_perm_mac) == ("srv1", PORTS[0].key, PORTS[0].key)
    assert (deaf.key, deaf.state, deaf.port) == (PORTS[1].key, "blocked", "eth1")
    assert deaf.reason.endswith("ethtool --set-priv-flags eth1 disable-fw-lldp on")


@pytest.mark.usefixtures("two_ports")
def test_a_virtual_function_has_no_cable() -> None:
    machine = Box({**FILES, "/sys/class/net/eth1/device/physfn": "../0000:01:00.0"}, [Reply(3, frame())])
    with pytest.raises(NotPresentError, match="on 1 ports"):
        collected(machine)
    assert machine.joined == [2]


@pytest.mark.usefixtures("two_ports")
def test_a_port_that_hears_is_not_deaf_whatever_its_flags_say() -> None:
    (found,) = collected(Box(FILES, [Reply(3, frame())]))
    assert (found.port, found.state) == ("eth1", "heard")


@pytest.mark.usefixtures("two_ports")
def test_lldpd_is_asked_where_it_runs_and_the_agent_listens_where_it_does_not_answer() -> None:
    heard, _ = collected(Box(RUNNING, [], daemon()))
    assert (heard.port, heard.source, heard.system_name) == ("eth0", "lldpd", "sw1")
    heard, _ = collected(Box(RUNNING, [Reply(2, frame())]))
    assert heard.source == "frames"
    with pytest.raises(NotPresentError, match=r"unable to connect.*; not allowed"):
        collected(Box(RUNNING, DeniedError("not allowed")))
    with pytest.raises(NotPresentError, match="no lldpd runs; not allowed"):
        collected(Box(FILES, DeniedError("not allowed")))


@pytest.mark.usefixtures("two_ports")
def test_what_lldpd_drops_of_bridging_is_taken_from_the_frame() -> None:
    theirs = {"chassis": b"\x04" + bytes.fromhex("001c73b3afbb"), "port": b"\x05Ethernet3"}
    frames = [
        Reply(2, frame(org("0080c2", 11, b"\x08\x10"))),
        Reply(2, frame(org("0080c2", 11, b"\x08\x08"), **theirs)),
    ]
    heard, _ = collected(Box(RUNNING, frames, daemon()))
    assert (heard.source, heard.pfc, heard.pfc_willing) == ("lldpd", [3], False)
    assert collected(Box(RUNNING, DeniedError("not allowed"), daemon()))[0].pfc is None


def test_without_a_carrier_there_is_no_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lldp, "read_own_ports", lambda _machine: [port(0, carrier=False), port(1, up=False)])
    machine = Box({name: text for name, text in FILES.items() if "driver" not in name}, [Reply(2, frame())])
    with pytest.raises(NotPresentError, match="no neighbour heard yet by frames on 1 ports"):
        collected(machine)
    assert machine.joined == [2]


@pytest.mark.parametrize(
    ("driver", "flags", "why"),
    [
        ("i40e", {"disable-fw-lldp": False}, "ethtool --set-priv-flags e0 disable-fw-lldp on"),
        ("i40e", {"disable-fw-lldp": True}, ""),
        ("i40e", {"legacy-rx": True}, ""),
        ("i40e", {}, ""),
        ("ice", {"fw-lldp-agent": True}, "ethtool --set-priv-flags e0 fw-lldp-agent off"),
        ("ice", {"fw-lldp-agent": False}, ""),
        ("ice", {}, "safe mode"),
        ("ice", None, ""),
        ("mlx5_core", {"fw-lldp-agent": True}, ""),
    ],
)
def test_which_flags_make_a_port_deaf(driver: str, flags: dict[str, bool] | None, why: str) -> None:
    reason = lldp.why_blocked(driver, flags, "e0")
    assert why in reason
    assert bool(why) == bool(reason)


@pytest.mark.parametrize(
    ("text", "release"), [("6.1.0-13-amd64", (6, 1)), ("5.7", (5, 7)), ("", (0, 0)), ("next", (0, 0)), ("6", (0, 0))]
)
def test_a_kernels_release(text: str, release: tuple[int, int]) -> None:
    assert lldp.parse_release(text) == release


# -- what real hosts' lldpd said, in its other form --


def as_json(text: str) -> str:
    """lldpctl's keyvalue as lldpcli's json0; values may span lines, keys repeat, and some have a value and keys."""
    heard: dict[str, Any] = {}
    for key, value in re.findall(r"^lldp\.(\S+?)=(.*(?:\n(?!lldp\.|#).*)*)", text, re.MULTILINE):
        ifname, part, *rest = key.split(".", 2)
        one = heard.setdefault(ifname, {"name": ifname, "via": "LLDP", "chassis": [{}], "port": [{}], "vlan": [{}]})
        name = rest[0] if rest else ""
        if part in ("chassis", "port") and name in ("mac", "ifname", "local"):
            one[part][0]["id"] = [{"type": name, "value": value}]
        elif name.endswith(".enabled") and part == "chassis":
            one[part][0].setdefault("capability", []).append({"type": name.removesuffix(".enabled"), "enabled": value})
        elif part == "vlan":
            one[part][0][name or "value"] = value.strip()
        elif name.startswith("auto-negotiation.") and name.count(".") == 1:
            negotiated = one[part][0].setdefault("auto-negotiation", [{}])[0]
            word = name.partition(".")[2]
            negotiated[word] = [{"value": value}] if word == "current" else value
        elif name.startswith("inventory."):
            inventory = one.setdefault(part, [{"inventory": [{}]}])[0]["inventory"][0]
            inventory[name.partition(".")[2]] = [{"value": value}]
        elif part in ("chassis", "port"):
            one[part][0].setdefault(name, []).append({"value": value})
    return json.dumps({"lldp": [{"interface": list(heard.values())}]})


def test_what_real_switches_announced_is_read_whole(data: Path) -> None:
    folder = data / "lldp-bonding/netbox-agent"
    found = {path.name: parse_neighbours(as_json(path.read_text())) for path in sorted(folder.glob("*.txt"))}
    assert len(found) >= 3
    assert all(harmless(one) for several in found.values() for one in several)
    (cisco,) = found["dedibox2.txt"]
    description = (
        "Cisco IOS Software, C2960X Software (C2960X-UNIVERSALK9-M), Version 15.0(2a)EX5, RELEASE SOFTWARE (fc3)"
        " Technical Support: http://www.cisco.com/techsupport Copyright (c) 1986-2015 by Cisco Systems, Inc."
        " Compiled Mon 16-Feb-15 08:16 by prod_rel_team"
    )
    assert said(cisco) == {
        "port": "eno1", "chassis_subtype": "mac", "chassis_id": "38:20:56:67:90:80", "port_subtype": "ifname",
        "port_id": "Gi1/0/29", "port_description": "GigabitEthernet1/0/29", "system_name": "s35-b12.dc3",
        "system_description": description, "capabilities": ["bridge"], "management": ["10.43.31.35"],
        "autoneg": True, "mau": "1000BaseTFD", "pvid": 140,
    }  # fmt: skip
    cumulus = found["cumulus.txt"]
    assert [(one.port, one.port_id, one.ttl_s) for one in cumulus] == [("eno1", "swp46", 120), ("eno2d1", "swp46", 120)]
    assert cumulus[0].management == ["10.160.20.18", "fe80::e6f0:4ff:feb6:4732"]
    assert {one.med["serial"] for one in cumulus} == {"To be filled by O.E.M."}
