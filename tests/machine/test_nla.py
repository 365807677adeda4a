"""The attribute codec: what is written reads back, and no bytes hang it or raise anything but MachineError."""

import re
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine import MachineError, Reply, ethtool, ethtool_ioctl, netdev, netlink, nla, rtnl

PARSERS: list[Callable[[bytes], Any]] = [
    nla.items,
    nla.table,
    lambda payload: nla.pick(payload, 0, frozenset({1, 2, 3})),
    rtnl.parse_link,
    rtnl.parse_stats,
    rtnl.parse_route,
    rtnl.parse_address,
    netlink.parse_family,
    lambda payload: list(netlink.messages(payload)),
    lambda payload: netlink.refusal(netlink.Message(2, 0x200, 1, payload), "it"),
    lambda payload: netlink.refusal(netlink.Message(2, 0x300, 1, payload), "it"),
    lambda payload: netlink.refusal(netlink.Message(3, 0x200, 1, payload), "it"),
    lambda payload: netdev.parse_queue(Reply(10, payload)),
    lambda payload: netdev.parse_napi(Reply(11, payload)),
    lambda payload: netdev.parse_xdp_features(Reply(1, payload)),
    lambda payload: ethtool.reply_ifindex(nla.table(payload)),
    lambda payload: ethtool_ioctl.parse_stats(payload, payload),
    *(
        lambda payload, parse=parse: parse(nla.table(payload))
        for parse in (
            ethtool.parse_rings,
            ethtool.parse_channels,
            ethtool.parse_coalesce,
            ethtool.parse_pause,
            ethtool.parse_features,
            ethtool.parse_fec,
            ethtool.parse_rss,
            ethtool.parse_linkmodes,
            ethtool.parse_linkinfo,
        )
    ),
]


def _attribute(value: bytes) -> st.SearchStrategy[bytes]:
    return st.integers(0, 60).map(lambda kind: nla.attr(kind, value))


nested = st.recursive(
    st.binary(max_size=24).flatmap(_attribute),
    lambda inner: st.lists(inner, max_size=6).map(b"".join).flatmap(_attribute),
    max_leaves=40,
)
plausible = st.tuples(st.binary(max_size=20), st.lists(nested, max_size=12).map(b"".join), st.binary(max_size=6))


@given(st.one_of(st.binary(max_size=400), plausible.map(b"".join)))
def test_no_bytes_raise_anything_but_machine_error(payload: bytes) -> None:
    for parse in PARSERS:
        try:
            parse(payload)
        except MachineError as error:
            assert "\n" not in str(error)


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=50))))
def test_what_is_written_reads_back(attributes: list[tuple[int, bytes]]) -> None:
    assert nla.items(b"".join(nla.attr(kind, value) for kind, value in attributes)) == attributes


@pytest.mark.parametrize("size", [0, 1, 3, 9, 0xFFFF])
def test_a_length_that_lies_is_one_clear_error(size: int) -> None:
    with pytest.raises(MachineError, match=f"attribute of {size} bytes does not fit into 8"):
        nla.items(struct.pack("=HHI", size, 1, 0))


@given(plausible.map(b"".join))
def test_picking_finds_what_the_table_has(payload: bytes) -> None:
    wanted = frozenset(range(20))
    try:
        whole = nla.table(payload)
    except MachineError as error:
        with pytest.raises(MachineError, match=re.escape(str(error))):
            nla.pick(payload, 0, wanted)
    else:
        assert nla.pick(payload, 0, wanted) == {kind: value for kind, value in whole.items() if kind in wanted}


def test_the_nested_flag_is_no_part_of_the_number() -> None:
    assert nla.table(nla.nest(5, nla.u32(1, 7), nla.text(2, "eth0"))) == {5: nla.u32(1, 7) + nla.text(2, "eth0")}


def test_numbers_have_any_width_and_texts_end_at_nul() -> None:
    assert [nla.number(value) for value in (b"", b"\x01", b"\x01\0", bytes([1, 0, 0, 0, 0, 0, 0, 0]))] == [0, 1, 1, 1]
    assert nla.signed(struct.pack("=i", -19)) == -19
    assert nla.string(b"eth0\0junk") == "eth0"
    assert nla.string(b"\xff\xfe") == "\ufffd\ufffd"


def test_the_kernels_words_are_in_the_error() -> None:
    words = nla.text(1, "requested channel count exceeds maximum")
    refused = netlink.Message(2, 0x300, 1, struct.pack("=i", -22) + bytes(16) + words)
    error = netlink.refusal(refused, "set channels")
    assert str(error) == "set channels: requested channel count exceeds maximum"
    assert error is not None
    assert error.code == 22
