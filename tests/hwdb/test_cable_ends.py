"""How machines and ports are spelt: the same end in every spelling."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdb.cable_ends import Fleet, box, names, plain, same_port
from wire.facts import Lldp, Port

WORDS = st.text(st.sampled_from("aeth01:./-(\x1b GgiMAC "), max_size=20) | st.text(max_size=20)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Gi1/0/29", "GigabitEthernet1/0/29", True),
        ("Eth1/1", "Ethernet1/1", True),
        ("ethernet1/1/1", "Eth1/1/1", True),
        ("et-0/0/20.0", "et-0/0/20", True),
        ("swp46", "SWP46", True),
        ("Gi1/0/29", "GigabitEthernet1/0/2", False),
        ("Te1/1", "Fo1/1", False),
        ("et-0/0/20", "xe-0/0/20", False),
        ("eth1", "eth10", False),
        ("", "", False),
    ],
)
def test_interface_names_and_their_abbreviations(one: str, other: str, same: bool) -> None:
    assert same_port(one, other) is same
    assert same_port(other, one) is same


@given(WORDS, WORDS)
def test_spellings_end_in_one(one: str, other: str) -> None:
    assert plain(plain(one)) == plain(one)
    assert same_port(one, other) == same_port(other, one)
    assert all(name == name.lower() for name in names(one))


def test_ids_of_real_switches_are_the_same_in_every_spelling(data: Path) -> None:
    folder = data / "lldp-bonding/napalm"
    cases = sorted(folder.glob("*/mocked_data/test_get_lldp_neighbors_detail/*/expected_result.json"))
    assert len(cases) >= 4
    for case in cases:
        for local, neighbours in json.loads(case.read_text()).items():
            for one in neighbours:
                far = Lldp(
                    key="mgmt", port="p", local_chassis_id=one["remote_chassis_id"].upper().replace(".", "-"),
                    local_system_name=one["remote_system_name"].split(".")[0],
                )  # fmt: skip
                there = Port(key="p1", name=one["remote_port_description"], mac=plain(one["remote_port"]))
                fleet = Fleet([box("far", "far", [there, Port(key="p2", name="another9"), far])])
                said = Lldp(
                    key=local, port=local, chassis_id=one["remote_chassis_id"], port_id=one["remote_port"],
                    system_name=one["remote_system_name"], port_description=one["remote_port_description"],
                )  # fmt: skip
                end = fleet.there(said)
                assert (end.host_id, end.port_key) == ("far", "p1"), one
