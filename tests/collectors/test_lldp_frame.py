"""LLDP frames as neighbours: real ones, all that the standards have, and what nobody should send."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.lldp_frame import parse_frame
from tests.collectors.lldp_frames import CHASSIS, HEAD, HOSTILE, PORT, TTL, frame, harmless, org, said, tlv
from wire.facts import Lldp


def parsed(raw: bytes) -> Lldp:
    found = parse_frame(raw)
    assert found is not None
    return found


EXPECTED = {
    "lldp.0.raw": {
        "chassis_subtype": "mac", "chassis_id": "00:17:d1:a8:35:bf",
        "port_subtype": "mac", "port_id": "00:17:d1:a8:36:02", "ttl_s": 120,
    },
    "lldp.1.raw": {
        "chassis_subtype": "mac", "chassis_id": "00:16:17:2f:a1:b6",
        "port_subtype": "mac", "port_id": "00:16:17:2f:a1:b6", "port_description": "eth0", "ttl_s": 120,
        "system_name": "naruto.XXXXXXXXXXXXXXXXXXX", "capabilities": ["bridge", "router"],
        "system_description": "Linux 2.6.29-2-amd64 #1 SMP Sun May 17 17:15:47 UTC 2009 x86_64",
        "management": ["10.238.80.75"], "lag": False, "max_frame_bytes": 1500, "autoneg": True, "mau": "100BaseTXFD",
        "med": {
            "hardware": "ND991789702", "firmware": "080012", "software": "2.6.29-2-amd64", "serial": "105820850009",
            "manufacturer": "NEC Computers SAS", "model": "POWERMATE VL350", "asset": "100207120",
        },
    },
    "connectx.pcap": {
        "chassis_subtype": "mac", "chassis_id": "50:6b:4b:f6:1e:b3", "port_subtype": "mac",
        "port_id": "50:6b:4b:f6:1e:b1", "port_description": "ConnectX-4 Lx, 25G/10G/1G SFP", "ttl_s": 48,
    },
    "sg200.pcap": {
        "chassis_subtype": "mac", "chassis_id": "00:35:35:35:35:35", "port_subtype": "ifname", "port_id": "g1",
        "ttl_s": 120, "autoneg": True,
        "med": {
            "hardware": "V02", "firmware": "1.0.8.3", "software": "1.0.8.3", "serial": "XXX11111ZZZ",
            "manufacturer": "0xbc00", "model": "SG 200-08P", "asset": "1",
        },
    },
}  # fmt: skip


def frames_of(path: Path) -> list[bytes]:
    """The frames of a raw dump, or of a capture file of libpcap."""
    content = path.read_bytes()
    if path.suffix == ".raw":
        return [content]
    found, at = [], 24
    while at < len(content):
        (size,) = struct.unpack_from("<I", content, at + 8)
        found.append(content[at + 16 : at + 16 + size])
        at += 16 + size
    return found


def test_real_frames_are_read_whole(data: Path) -> None:
    folder = data / "lldp-bonding/lldpd"
    found = {path.name: [said(parsed(raw)) for raw in frames_of(path)] for path in folder.iterdir()}
    assert found == {name: [expected] for name, expected in EXPECTED.items()}


def test_every_tlv_of_the_standards_is_read() -> None:
    found = parsed(
        frame(
            tlv(4, b"to srv1"),
            tlv(5, b"sw1.example"),
            tlv(6, b"EOS\r\nversion 4"),
            tlv(7, b"\x00\x14\x00\x14"),
            tlv(8, b"\x05\x01\xc0\x00\x02\x01\x02\x00\x00\x00\x05\x00"),
            tlv(8, b"\x11\x02" + bytes.fromhex("20010db8000000000000000000000001") + b"\x02\x00\x00\x00\x05\x00"),
            org("0080c2", 1, b"\x01\x2c"),
            org("0080c2", 3, b"\x01\x2c\x07storage"),
            org("0080c2", 3, b"\x01\x2d\x03lab"),
            org("0080c2", 7, b"\x03\x00\x00\x00\x09"),
            org("00120f", 1, b"\x03\x00\x00\x00\x1e"),
            org("00120f", 2, b"\x07\x01\x05"),
            org("00120f", 4, b"\x24\x14"),
            org("0012bb", 10, b"DCS-7050"),
        )
    )
    assert said(found) == {
        "chassis_subtype": "mac", "chassis_id": "52:54:00:aa:00:01", "port_subtype": "ifname", "port_id": "eth7",
        "ttl_s": 120, "port_description": "to srv1", "system_name": "sw1.example",
        "system_description": "EOS version 4", "capabilities": ["bridge", "router"],
        "management": ["192.0.2.1", "2001:db8::1"], "pvid": 300, "vlans": {"300": "storage", "301": "lab"},
        "lag": True, "lag_port": 9, "autoneg": True, "mau": "1000BaseTFD", "power": "PSE class 4",
        "max_frame_bytes": 9236, "med": {"model": "DCS-7050"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("subtype", "value", "expected"),
    [
        (4, b"\x52\x54\x00\xaa\x00\x01", ("mac", "52:54:00:aa:00:01")),
        (4, b"short", ("mac", "short")),
        (5, b"\x01\xc0\x00\x02\x01", ("ip", "192.0.2.1")),
        (5, b"\x02" + bytes(15) + b"\x01", ("ip", "::1")),
        (5, b"\x01\xc0\x00", ("ip", "01c000")),
        (6, b"eth0\0", ("ifname", "eth0")),
        (7, b"512", ("local", "512")),
        (7, b"\x00\x00\x02\x00", ("local", "00000200")),
        (7, b"\xff\xfe", ("local", "fffe")),
        (99, b"x", ("99", "x")),
        (7, b"\xff" * 400, ("local", "ff" * 127 + "…")),
        (5, b"\xff" * 400, ("ip", "ff" * 127 + "…")),
    ],
)
def test_a_chassis_is_named_by_its_kind(subtype: int, value: bytes, expected: tuple[str, str]) -> None:
    found = parsed(frame(chassis=bytes([subtype]) + value))
    assert (found.chassis_subtype, found.chassis_id) == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        HEAD,
        frame()[:12] + b"\x08\x00" + frame()[14:],
        HEAD + tlv(2, PORT) + tlv(1, CHASSIS) + tlv(3, TTL),
        HEAD + tlv(1, CHASSIS) + tlv(2, PORT),
        frame(chassis=b"\x04"),
        frame(ttl=b"\x01"),
        frame()[:20],
    ],
)
def test_what_is_no_lldp_frame_is_none(raw: bytes) -> None:
    assert parse_frame(raw) is None


def test_a_tlv_that_is_cut_or_too_short_costs_itself() -> None:
    found = parsed(frame(tlv(7, b"\0"), tlv(8, b"\x05\x01\xc0"), tlv(8, b""), org("0080c2", 1, b"\x01"), tlv(5, b"a")))
    assert (found.capabilities, found.management, found.pvid, found.system_name) == ([], [], None, "a")
    cut = frame(tlv(5, b"first"))[:-2] + b"\x0d\xff no more"
    assert (parsed(cut).system_name, parsed(cut).system_description) == ("first", "")


@pytest.mark.parametrize("vlan", [0, 4095, 65535])
def test_a_vlan_that_is_none_is_none(vlan: int) -> None:
    raw = frame(org("0080c2", 1, vlan.to_bytes(2, "big")), org("0080c2", 3, vlan.to_bytes(2, "big") + b"\x01x"))
    assert (parsed(raw).pvid, parsed(raw).vlans) == (None, {})


@pytest.mark.parametrize(
    ("value", "words"), [(b"\x00\x01\x01", ""), (b"\x06\x01\x01", "PD class 0"), (b"\x07\x01", "")]
)
def test_power_is_said_where_there_is_some(value: bytes, words: str) -> None:
    assert parsed(frame(org("00120f", 2, value))).power == words


def test_a_hostile_neighbour_says_nothing_that_a_terminal_obeys() -> None:
    texts = [tlv(kind, HOSTILE) for kind in (4, 5, 6)]
    med = [org("0012bb", kind, HOSTILE) for kind in range(5, 12)]
    vlans = [org("0080c2", 3, number.to_bytes(2, "big") + bytes([len(HOSTILE)]) + HOSTILE) for number in range(1, 400)]
    many = [tlv(8, b"\x05\x01\x0a\x00" + number.to_bytes(2, "big") + b"\x01\0\0\0\0\0") for number in range(400)]
    found = parsed(frame(*texts, *med, *vlans, *many, chassis=b"\x07" + HOSTILE, port=b"\x05" + HOSTILE))
    assert harmless(found)
    assert (len(found.vlans), len(found.management)) == (64, 64)


TLVS = st.tuples(st.integers(0, 127), st.binary(max_size=60)).map(lambda pair: tlv(*pair))
ORGS = st.tuples(
    st.sampled_from(["0080c2", "00120f", "0012bb", "00005e"]), st.integers(0, 12), st.binary(max_size=40)
).map(lambda parts: org(*parts))
FRAMES = st.binary(max_size=200) | st.binary(max_size=200).map(lambda raw: HEAD + raw) | st.builds(
    lambda more, kept, **heads: frame(*more, **heads)[:kept],
    more=st.lists(TLVS | ORGS, max_size=12),
    kept=st.none() | st.integers(0, 60),
    chassis=st.binary(max_size=40) | st.binary(min_size=250, max_size=511),
    port=st.binary(max_size=40) | st.binary(min_size=250, max_size=511),
    ttl=st.binary(min_size=2, max_size=4),
)  # fmt: skip


@given(FRAMES)
def test_whatever_arrives_is_a_neighbour_or_none(raw: bytes) -> None:
    found = parse_frame(raw)
    assert found is None or harmless(found)
