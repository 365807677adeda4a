"""Link kinds and virtual functions as bytes: structs built by hand as the kernel lays them out, and broken ones."""

import struct
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine import Machine, MachineError, Reply, linkinfo, nla, team
from machine.redact import redact
from machine.tape import Tape

HEADER = struct.pack("=BxHiII", 0, 1, 7, 0x1003, 0)
MAC = bytes.fromhex("5254009a8b7c")
PARTNER = bytes.fromhex("649d992e78a1")


def words(*numbers: int) -> bytes:
    return struct.pack(f"={len(numbers)}I", *numbers)


def vf(number: int, *more: bytes) -> bytes:
    return nla.nest(1, nla.attr(1, words(number) + MAC.ljust(32, b"\0")), *more)


def message(*attributes: bytes) -> bytes:
    return HEADER + b"".join(attributes)


def test_a_virtual_function_has_what_its_physical_one_keeps_of_it() -> None:
    provider = nla.attr(1, words(3, 100, 5) + b"\x88\xa8\0\0")
    one = vf(
        3,
        nla.attr(2, words(3, 100, 5)),
        nla.nest(12, provider),
        nla.attr(6, words(3, 100, 2500)),
        nla.attr(4, words(3, 1)),
        nla.attr(9, words(3, 0)),
        nla.attr(5, words(3, 2)),
        nla.nest(8, nla.attr(0, struct.pack("=Q", 9)), nla.attr(3, struct.pack("=Q", 1 << 40))),
    )
    assert linkinfo.parse_vfs(message(nla.nest(22, one))) == [
        linkinfo.Vf(
            number=3,
            mac="52:54:00:9a:8b:7c",
            vlan_id=100,
            vlan_qos=5,
            vlan_protocol="802.1ad",
            min_tx_mbps=100,
            max_tx_mbps=2500,
            spoofchk=True,
            trust=False,
            link_state="disable",
            stats={"rx_packets": 9, "tx_bytes": 1 << 40},
        )
    ]


def test_what_a_driver_does_not_have_is_none_and_zeros_are_no_mac() -> None:
    bare = nla.nest(1, nla.attr(1, words(0) + bytes(32)), nla.attr(4, words(0, 0xFFFFFFFF)), nla.attr(3, words(0, 40)))
    (found,) = linkinfo.parse_vfs(message(nla.nest(22, bare)))
    assert (found.mac, found.spoofchk, found.trust, found.link_state) == ("", None, None, "")
    assert (found.min_tx_mbps, found.max_tx_mbps, found.vlan_id, found.vlan_protocol) == (0, 40, 0, "")
    assert linkinfo.parse_vfs(message()) == []


class Crowded:
    """A kernel whose physical function has so many: the length of the list is cut to 16 bits, as the real one does."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.masks: list[int] = []

    def rtnl(self, kind: int, payload: bytes, *, dump: bool = False) -> list[Reply]:  # noqa: ARG002
        mask = nla.number(nla.table(payload, len(HEADER))[29])
        self.masks.append(mask)
        counters = [] if mask & 8 else [nla.nest(8, *(nla.attr(at, bytes(8)) for at in range(8)))]
        listed = b"".join(vf(number, *counters, nla.attr(5, words(number, 0))) for number in range(self.count))
        head = struct.pack("=HH", (len(listed) + 4) & 0xFFFF, 22 | nla.NESTED)
        return [Reply(kind, HEADER + head + listed)]


@pytest.mark.parametrize(("count", "masks"), [(63, [1]), (512, [1, 9])])
def test_a_list_that_runs_over_its_attribute_is_asked_for_without_counters(count: int, masks: list[int]) -> None:
    kernel = Crowded(count)
    found = linkinfo.read_vfs(cast("Machine", kernel), 7)
    assert [one.number for one in found] == list(range(count))
    assert kernel.masks == masks


def test_protocols_are_named_and_others_numbered() -> None:
    assert [linkinfo.protocol(value) for value in (b"\x81\x00", b"\x88\xa8", b"\x91\x00", b"")] == [
        "802.1Q",
        "802.1ad",
        "0x9100",
        "",
    ]


def test_a_capture_keeps_no_address_of_a_function_a_partner_or_a_bridge() -> None:
    aggregate = nla.nest(linkinfo.BOND_AD_INFO, nla.attr(linkinfo.PARTNER_MAC, PARTNER))
    bond = nla.nest(18, nla.text(1, "bond"), nla.nest(2, aggregate))
    tape: Tape = {
        ("rtnl", "18", "get", "00"): [Reply(16, message(nla.nest(22, vf(0)), bond)), Reply(16, message())],
        ("file", "/proc/net/bonding/bond0"): b"Partner Mac Address: 64:9d:99:2e:78:a1",
    }
    public = redact(tape)
    kept = repr(public)
    replies = next(body for body in public.values() if isinstance(body, list))
    payload = replies[0].payload
    assert PARTNER not in payload
    assert MAC not in payload
    assert "64:9d:99:2e:78:a1" not in kept
    (function,) = linkinfo.parse_vfs(payload)
    assert function.mac.startswith("52:54:00:")


def test_the_port_of_a_switch() -> None:
    payload = message(nla.attr(36, PARTNER), nla.text(38, "pf0vf3"))
    assert linkinfo.parse_switch_port(payload) == (7, linkinfo.SwitchPort("649d992e78a1", "pf0vf3"))


def test_a_team_is_its_options_and_ports() -> None:
    options = nla.nest(
        2,
        nla.nest(1, nla.text(1, "mode"), nla.u8(3, 4), nla.text(4, "activebackup")),
        nla.nest(1, nla.text(1, "activeport"), nla.u8(3, 3), nla.u32(4, 5)),
        nla.nest(1, nla.text(1, "enabled"), nla.u8(3, 6), nla.u32(6, 5)),
    )
    found = team.parse_options(nla.u32(1, 7) + options)
    assert (nla.string(found["mode"]), nla.number(found["activeport"])) == ("activebackup", 5)
    assert "enabled" not in found, "that is an option of a port"
    ports = nla.nest(3, nla.nest(1, nla.u32(1, 5), nla.attr(3, b"")), nla.nest(1, nla.u32(1, 6)))
    assert team.parse_ports(nla.u32(1, 7) + ports) == {5: True, 6: False}


@pytest.mark.parametrize(
    "parse", [linkinfo.parse, linkinfo.parse_vfs, linkinfo.parse_switch_port, team.parse_options, team.parse_ports]
)
@given(st.binary(max_size=400))
def test_bytes_that_are_no_message_are_an_error_or_nothing(parse: object, payload: bytes) -> None:
    assert callable(parse)
    for body in (payload, HEADER + payload, HEADER + nla.attr(18, payload), HEADER + nla.attr(22, payload)):
        try:
            parse(body)
        except MachineError as error:
            assert str(error)
