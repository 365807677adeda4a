"""Cables from what is heard at both ends: whoever spells a machine or port how, the verdict, and what it was before."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdb.cable_ends import Box, Fleet, box, find_jack
from hwdb.cables import CHANGED_MS, VERDICTS, CableEntry, Heard, cables
from hwdb.db import reading
from hwdb.ingest import Ingest
from hwdb.store_cables import all_cables
from wire.facts import Lldp, Nic, Port
from wire.facts.rack import Device

Speaker = Any
MAC = "b8:59:9f:00:00:0{}"
SWITCH = "00:1c:73:b3:af:bb"
NOW_MS = 1_800_000_000_000


def nic(number: int, **more: Any) -> Nic:
    mac = MAC.format(number)
    fields: dict[str, Any] = {
        "key": mac,
        "ifname": f"eth{number}",
        "ifindex": number + 1,
        "type": "physical",
        "mac": mac,
    }
    return Nic(**{**fields, "perm_mac": mac, **more})


def port(number: int, **more: Any) -> Port:
    name = f"Ethernet{number}"
    fields: dict[str, Any] = {"key": name, "name": name, "ifindex": 500 + number}
    return Port(**{**fields, **more})


def from_host(number: int, peer: int, **more: Any) -> Lldp:
    """What the server hears on a NIC of the switch's port."""
    said: dict[str, Any] = {
        "chassis_subtype": "mac",
        "chassis_id": SWITCH,
        "port_subtype": "ifname",
        "port_id": f"Ethernet{peer}",
    }
    end = {"key": MAC.format(number), "port": f"eth{number}", "source": "lldpd", "system_name": "sw1.example"}
    return Lldp(**{**said, **end, **more})


def from_switch(number: int, peer: int, **more: Any) -> Lldp:
    """What the switch hears on a port of the server's NIC, as lldpd announces it."""
    said: dict[str, Any] = {
        "chassis_subtype": "mac",
        "chassis_id": MAC.format(1),
        "port_subtype": "mac",
        "port_id": MAC.format(peer),
    }
    own = {"local_chassis_subtype": "mac", "local_chassis_id": SWITCH, "local_system_name": "sw1"}
    end = {"key": f"Ethernet{number}", "port": f"Ethernet{number}", "source": "lldp-mib", "system_name": "srv1"}
    return Lldp(**{**said, **own, **end, **more})


def server(*heard: Lldp, nics: int = 2) -> Box:
    return box("h1", "srv1.example", [*(nic(number) for number in range(1, nics + 1)), *heard])


def switch(*heard: Lldp) -> Box:
    return box("sw", "sw1", [*(port(number) for number in range(1, 5)), *heard], ["sw1.example"])


def join(host: list[Lldp], far: list[Lldp], **changes: Any) -> list[CableEntry]:
    """The cables between one server and one switch."""
    told = [Heard("h1", one, 1_000, **changes) for one in host] + [Heard("sw", one, 2_000) for one in far]
    return cables(Fleet([server(*host), switch(*far)]), told, NOW_MS)


def shape(found: list[CableEntry]) -> list[tuple[str, str, str, str, str, str]]:
    return [(one.hostname, one.port, one.peer, one.peer_port, one.verdict, one.seen_by) for one in found]


def test_two_ends_that_name_each_other_agree() -> None:
    (one,) = join([from_host(1, 3)], [from_switch(3, 1)])
    assert shape([one]) == [("srv1.example", "eth1", "sw1", "Ethernet3", "agree", "both")]
    assert (one.host_id, one.port_key, one.peer_id, one.peer_port_key) == ("h1", MAC.format(1), "sw", "Ethernet3")
    assert (one.since_ms, one.reason, one.remedy) == (2_000, "", "")


@pytest.mark.parametrize("source", ["lldpd", "frames"])
def test_what_one_end_alone_hears_is_one_sided_and_says_whose_turn_it_is(source: str) -> None:
    (one,) = join([from_host(1, 3, source=source)], [])
    assert shape([one]) == [("srv1.example", "eth1", "sw1", "Ethernet3", "one-sided", "host")]
    why = {"lldpd": "sw1 Ethernet3 reports no neighbour", "frames": "srv1.example only listens: nothing on it"}
    assert one.reason.startswith(why[source])
    (other,) = join([], [from_switch(3, 1)])
    assert shape([other]) == [("srv1.example", "eth1", "sw1", "Ethernet3", "one-sided", "peer")]


def test_a_switch_that_nobody_polls_is_named_as_it_names_itself() -> None:
    heard = from_host(1, 3, chassis_id="aa:aa:aa:aa:aa:aa", system_name="far.example")
    (one,) = join([heard], [])
    assert shape([one]) == [("srv1.example", "eth1", "far.example", "Ethernet3", "one-sided", "host")]
    assert (one.peer_id, one.reason) == ("", "far.example is not in the inventory")
    (nameless,) = join([msgspec.structs.replace(heard, system_name="")], [])
    assert nameless.peer == "aa:aa:aa:aa:aa:aa"


def test_a_fibre_pair_split_over_two_ports_is_crossed() -> None:
    found = join([from_host(1, 3), from_host(2, 4)], [from_switch(3, 2), from_switch(4, 1)])
    assert {one.verdict for one in found} == {"crossed"}
    assert len(found) == 4
    assert "srv1.example eth1 hears sw1 Ethernet3, which hears srv1.example eth2" in {one.reason for one in found}
    assert all(one.remedy for one in found)


def test_who_shares_a_port_that_agrees_with_another_is_not_crossed() -> None:
    """A virtual machine hears through the NIC of its host."""
    guest = box("vm", "guest", [nic(8)])
    through = Heard("vm", from_host(8, 3), 3_000)
    told = [Heard("h1", from_host(1, 3), 1_000), Heard("sw", from_switch(3, 1), 2_000), through]
    found = cables(Fleet([server(), switch(), guest]), told, NOW_MS)
    assert {(one.hostname, one.verdict) for one in found} == {("guest", "one-sided"), ("srv1.example", "agree")}
    (shared,) = [one for one in found if one.verdict == "one-sided"]
    assert shared.reason == "sw1 Ethernet3 and srv1.example eth1 agree: eth8 shares that port with it"


def test_cables_swapped_at_the_switch_agree_with_each_other() -> None:
    found = join([from_host(1, 4), from_host(2, 3)], [from_switch(4, 1), from_switch(3, 2)])
    assert [one.verdict for one in found] == ["agree", "agree"]
    assert {(one.port, one.peer_port) for one in found} == {("eth1", "Ethernet4"), ("eth2", "Ethernet3")}


def test_a_deaf_port_is_blocked_with_and_without_the_switchs_word() -> None:
    deaf = Lldp(key=MAC.format(1), port="eth1", state="blocked", reason="ethtool --set-priv-flags eth1 x off")
    (one,) = join([deaf], [from_switch(3, 1)])
    assert shape([one]) == [("srv1.example", "eth1", "sw1", "Ethernet3", "blocked", "peer")]
    (alone,) = join([deaf], [])
    assert shape([alone]) == [("srv1.example", "eth1", "", "", "blocked", "")]
    assert one.reason == alone.reason == deaf.reason


def test_a_cable_that_was_moved_says_since_when_and_from_where() -> None:
    past = {"changed_ms": NOW_MS - 1000, "before": from_host(1, 2)}
    (one,) = join([from_host(1, 3)], [from_switch(3, 1)], **past)
    assert (one.verdict, one.before, one.since_ms) == ("changed", "sw1 Ethernet2", NOW_MS - 1000)
    (old,) = join([from_host(1, 3)], [from_switch(3, 1)], **{**past, "changed_ms": NOW_MS - CHANGED_MS - 1})
    assert (old.verdict, old.before) == ("agree", "")
    (crossed, *_) = join([from_host(1, 3)], [from_switch(3, 2)], **past)
    assert crossed.verdict == "crossed"


def test_a_cable_that_left_another_port_was_moved_from_there() -> None:
    here, there = from_switch(3, 1), from_host(1, 3)
    told = [Heard("sw", here, 2_000)]
    gone = [Heard("sw", from_switch(2, 1), 0, NOW_MS - 1000), Heard("h1", from_host(2, 4), 0, NOW_MS - 500)]
    (one,) = cables(Fleet([server(), switch(here)]), told, NOW_MS, gone)
    assert (one.verdict, one.before, one.since_ms) == ("changed", "sw1 Ethernet2", NOW_MS - 1000)
    again = [Heard("h1", there, 0, NOW_MS - 1000)]  # the other end of this very cable fell silent
    (one,) = cables(Fleet([server(), switch(here)]), told, NOW_MS, again)
    assert one.verdict == "one-sided"


@pytest.mark.parametrize(
    "before",
    [
        {"system_name": "SW1.EXAMPLE.NET"},
        {"port_subtype": "local", "port_id": "503"},
        {"chassis_subtype": "local", "chassis_id": "sw1"},
        {"chassis_id": "", "port_id": "", "system_name": ""},
    ],
)
def test_the_same_end_in_other_words_is_no_change(before: dict[str, str]) -> None:
    past = msgspec.structs.replace(from_host(1, 3), **before)
    (one,) = join([from_host(1, 3)], [from_switch(3, 1)], changed_ms=NOW_MS - 1000, before=past)
    assert one.verdict == "agree"


def test_neighbours_of_one_port_that_change_places_are_no_change() -> None:
    second = from_host(1, 4, key=f"{MAC.format(1)}#2", port_key=MAC.format(1))
    told = [
        Heard("h1", from_host(1, 3), 1, NOW_MS - 5, from_host(1, 4)),
        Heard("h1", second, 1, NOW_MS - 5, from_host(1, 3)),
    ]
    found = cables(Fleet([server(), switch()]), told, NOW_MS)
    assert [(one.port, one.peer_port, one.verdict) for one in found] == [
        ("eth1", "Ethernet3", "one-sided"),
        ("eth1", "Ethernet4", "one-sided"),
    ]


def test_firmware_that_speaks_beside_the_system_is_the_same_end() -> None:
    firmware = from_switch(
        3, 1, key="Ethernet3#2", port_key="Ethernet3", chassis_id="b8:59:9f:ff:ff:01", system_name=""
    )
    found = join([from_host(1, 3)], [from_switch(3, 1), firmware])
    assert shape(found) == [("srv1.example", "eth1", "sw1", "Ethernet3", "agree", "both")]


def test_the_ports_of_a_bond_are_told_apart_by_their_permanent_macs_or_names() -> None:
    bonded = [nic(1), nic(2, mac=MAC.format(1)), Nic(key="bond0", ifname="bond0", ifindex=9, mac=MAC.format(1))]
    fleet = Fleet([box("h1", "srv1", [*bonded, from_host(2, 4)]), switch()])
    assert fleet.there(from_switch(4, 2)).port == "eth2"
    assert fleet.there(from_switch(3, 1)).port == "eth1"
    shared = from_switch(4, 1, port_id=MAC.format(1), port_description="eth2")
    without = [nic(1, perm_mac=""), nic(2, mac=MAC.format(1), perm_mac=""), bonded[2]]
    assert Fleet([box("h1", "srv1", without)]).there(shared).port == "eth2"
    unclear = Fleet([box("h1", "srv1", without), switch(from_switch(4, 1, port_description=""))])
    assert unclear.there(msgspec.structs.replace(shared, port_description="")).port_key == ""


def test_a_port_that_cannot_be_told_is_the_one_that_hears_back() -> None:
    opaque = from_switch(3, 1, port_subtype="circuit", port_id="0xdeadbeef", port_description="")
    found = join([from_host(1, 3)], [opaque])
    assert shape(found) == [("srv1.example", "eth1", "sw1", "Ethernet3", "agree", "both")]


def test_two_ends_that_cannot_tell_each_others_port_are_joined_where_there_is_one_choice() -> None:
    vague = {"port_subtype": "circuit", "port_id": "0xdead", "port_description": ""}
    found = join([from_host(1, 3, **vague)], [from_switch(3, 1, **vague)])
    assert shape(found) == [("srv1.example", "eth1", "sw1", "Ethernet3", "agree", "both")]
    several = join([from_host(1, 3, **vague), from_host(2, 4, **vague)], [from_switch(3, 1, **vague)])
    assert [one.verdict for one in several] == ["one-sided"] * 3


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({}, "sw"),
        ({"chassis_id": "001C.73B3.AFBB"}, "sw"),
        ({"chassis_id": "00-1C-73-B3-AF-BB", "system_name": ""}, "sw"),
        ({"chassis_subtype": "local", "chassis_id": "chassis 1"}, "sw"),
        ({"chassis_id": "", "system_name": "SW1."}, "sw"),
        ({"chassis_id": "", "system_name": "sw1.other.example"}, "sw"),
        ({"chassis_id": "", "system_name": "sw1.example(FOX2134ABCD)"}, "sw"),
        ({"chassis_id": "", "system_name": "sw2"}, ""),
        ({"chassis_id": "", "system_name": "localhost"}, ""),
        ({"chassis_id": "", "system_name": "Not Advertised"}, ""),
        ({"chassis_id": "", "system_name": "", "port_id": MAC.format(2)}, "h1"),
        ({"chassis_id": "00:00:00:00:00:00", "system_name": ""}, ""),
    ],
    ids=str,
)
def test_a_machine_is_found_by_whatever_it_announces(said: dict[str, str], found: str) -> None:
    own = from_switch(1, 1)
    fleet = Fleet([server(), switch(own), box("other", "localhost", [nic(7)])])
    assert fleet.there(from_host(1, 3, **said)).host_id == found


def test_machines_of_one_name_are_told_apart_by_their_chassis() -> None:
    twin = box("twin", "sw1", [port(3), from_switch(3, 2, local_chassis_id="00:1c:73:00:00:01")])
    fleet = Fleet([switch(from_switch(1, 1)), twin])
    assert fleet.there(from_host(1, 3)).host_id == "sw"
    assert fleet.there(from_host(1, 3, chassis_id="00:1c:73:00:00:01")).host_id == "twin"
    assert fleet.there(from_host(1, 3, chassis_id="", system_name="sw1")).host_id == ""


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ({"port_id": "Ethernet3"}, "Ethernet3"),
        ({"port_id": "ethernet3"}, "Ethernet3"),
        ({"port_id": "Eth3"}, "Ethernet3"),
        ({"port_id": "Ethernet 3"}, "Ethernet3"),
        ({"port_subtype": "local", "port_id": "503"}, "Ethernet3"),
        ({"port_subtype": "mac", "port_id": "00:1C:73:B3:AF:03"}, "Ethernet3"),
        ({"port_subtype": "local", "port_id": "99", "port_description": "Ethernet3"}, "Ethernet3"),
        ({"port_subtype": "local", "port_id": "99", "port_description": "to srv1"}, "Ethernet3"),
        ({"port_id": "Ethernet33"}, ""),
        ({"port_id": "Et", "port_description": ""}, ""),
        ({"port_id": "", "port_description": ""}, ""),
    ],
    ids=str,
)
def test_a_port_is_found_by_whatever_it_is_called(said: dict[str, str], key: str) -> None:
    ports = [port(1), port(3, alias="to srv1", mac="00:1c:73:b3:af:03"), port(13), port(30)]
    found = find_jack(box("sw", "sw1", ports).jacks.values(), from_host(1, 3, **said))
    assert (found.key if found else "") == key


WORDS = st.text(st.sampled_from("aeth01:./-(\x1b GgiMAC "), max_size=20) | st.text(max_size=20)
ANYTHING = st.builds(
    Lldp,
    key=st.sampled_from(["k1", "k2", "k1#2"]),
    port=WORDS,
    state=st.sampled_from(["heard", "heard", "blocked"]),
    chassis_id=WORDS | st.just(SWITCH),
    port_subtype=st.sampled_from(["mac", "ifname", "local"]),
    port_id=WORDS | st.just(MAC.format(1)),
    port_description=WORDS,
    system_name=WORDS | st.just("srv1"),
    local_chassis_id=WORDS,
    local_system_name=WORDS,
    local_port_id=WORDS,
)


@given(st.lists(st.tuples(st.sampled_from(["h1", "sw"]), ANYTHING, ANYTHING), max_size=6))
def test_whatever_is_announced_each_cable_has_a_verdict_and_comes_once(told: list[tuple[str, Lldp, Lldp]]) -> None:
    heard = [Heard(owner, fact, 1, NOW_MS - 1, before) for owner, fact, before in told]
    of = {owner: [one.fact for one in heard if one.host_id == owner] for owner in ("h1", "sw")}
    found = cables(Fleet([server(*of["h1"]), switch(*of["sw"])]), heard, NOW_MS)
    assert {one.verdict for one in found} <= set(VERDICTS)
    assert len(found) <= len(told)
    ends = [
        (
            one.host_id,
            one.port_key or one.port.lower(),
            one.peer_id,
            one.peer.lower(),
            one.peer_port_key or one.peer_port.lower(),
        )
        for one in found
    ]
    assert len(set(ends)) == len(ends)


@pytest.fixture
def rack(ingest: Ingest, speaker: type[Speaker]) -> tuple[Speaker, Speaker]:
    """A server and its switch, which hear each other on one cable."""
    host, far = speaker("srv1"), speaker("sw1")
    ingest.batch([host.birth(), host.facts("nic", nic(1), nic(2)), host.facts("lldp", from_host(1, 3))])
    ingest.batch(
        [far.birth(), far.facts("snmp", Device(name="sw1.example"), port(3), port(4), from_switch(3, 1))],
    )
    return host, far


def test_a_cable_in_sql_agrees_then_has_moved_then_has_one_end(
    url: str, ingest: Ingest, rack: tuple[Speaker, Speaker]
) -> None:
    host, far = rack

    def now(later_ms: int = 1000) -> list[CableEntry]:
        with reading(url) as conn:
            return all_cables(conn, host.now_ms + later_ms)

    (one,) = now()
    assert (one.hostname, one.peer, one.verdict) == ("srv1.example", "sw1.example", "agree")
    ingest.batch([host.facts("lldp", from_host(1, 4)), far.facts("snmp", port(3), port(4), from_switch(4, 1))])
    (one,) = now()
    assert (one.verdict, one.before, one.peer_port) == ("changed", "sw1.example Ethernet3", "Ethernet4")
    assert one.since_ms == max(host.now_ms, far.now_ms)
    ingest.batch([host.facts("lldp"), host.facts("lldp", from_host(1, 4))])  # an agent that starts has heard nobody yet
    assert [(one.verdict, one.before) for one in now()] == [("changed", "sw1.example Ethernet3")]
    ingest.batch([host.facts("lldp")])
    (one,) = now()
    assert (one.seen_by, one.verdict, one.before) == ("peer", "changed", "sw1.example Ethernet3")
    assert [one.verdict for one in now(8 * 86_400_000)] == ["one-sided"]
    ingest.batch([far.facts("snmp")])
    assert now() == []


def test_cables_of_one_host_are_those_with_an_end_there(
    url: str, ingest: Ingest, rack: tuple[Speaker, Speaker], speaker: type[Speaker]
) -> None:
    other = speaker("srv9")
    heard = from_host(7, 4, key="z", port="eth7")
    ingest.batch([other.birth(), other.facts("lldp", heard)])
    with reading(url) as conn:
        found = {name: [one.port for one in all_cables(conn, NOW_MS, name)] for name in ("srv1", "sw1", "srv9", "")}
    assert found == {"srv1": ["eth1"], "sw1": ["eth1", "eth7"], "srv9": ["eth7"], "": ["eth1", "eth7"]}
