"""Settings of virtual functions as text: what it says, what it is not, and that it is said again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.vf import Settings, format_vfs, parse_vfs

MAC = "02:00:00:00:00:04"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("4 mac=02:00:00:00:00:04 driver=vfio-pci", {4: {"mac": MAC, "driver": "vfio-pci"}}),
        ("0-1 trust=on; 1 spoofchk=off", {0: {"trust": True}, 1: {"trust": True, "spoofchk": False}}),
        ("2 vlan=100/3", {2: {"vlan_id": 100, "vlan_qos": 3, "vlan_protocol": "802.1Q"}}),
        ("2 vlan=7/0/802.1ad", {2: {"vlan_id": 7, "vlan_qos": 0, "vlan_protocol": "802.1ad"}}),
        ("2 vlan=0", {2: {"vlan_id": 0, "vlan_qos": 0, "vlan_protocol": ""}}),
        ("3 min_tx=10 max_tx=0 link=auto", {3: {"min_tx_mbps": 10, "max_tx_mbps": 0, "link_state": "auto"}}),
        ("3 mac=none driver=none", {3: {"mac": "", "driver": ""}}),
    ],
)
def test_what_a_text_says(text: str, expected: dict[int, Settings]) -> None:
    assert parse_vfs(text) == expected
    assert parse_vfs(format_vfs(expected)) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0", "sets nothing"),
        ("x trust=on", "no list of functions"),
        ("9999 trust=on", "no list of functions"),
        ("0 color=red", "is none of mac="),
        ("0 trust=yes", "trust is on or off"),
        ("0-1 mac=02:00:00:00:00:04", "cannot share one MAC"),
        ("0 mac=01:00:00:00:00:04", "no address of one station"),
        ("0 mac=00:00:00:00:00:00", "no address of one station"),
        ("0 vlan=4095", "is not ID"),
        ("0 vlan=1/8", "is not ID"),
        ("0 vlan=1/0/q", "is not ID"),
        ("0 vlan=0/3/802.1ad", "has no protocol"),
        ("0 max_tx=-1", "whole number of Mbit/s"),
        ("0 link=up", "auto, enable or disable"),
        ("0 driver=../x", "no driver's name"),
        ("0 trust=on; 0 trust=off", "has trust twice"),
    ],
)
def test_what_is_no_such_text(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_vfs(text)


@given(text=st.text(alphabet="0123456789-,;= machvlntruspofdie:/.", max_size=60))
def test_any_text_is_settings_or_a_reason(text: str) -> None:
    try:
        found = parse_vfs(text)
    except ValueError:
        return
    assert parse_vfs(format_vfs(found)) == found
