"""dcbnl against the kernel's structs: a driver played by ctypes structs laid out as linux/dcbnl.h has them.

No driver of the lab has dcbnl, so that what is sent is decoded here as the kernel decodes it, and answered alike.
"""

import ctypes
import errno
from typing import Any

import pytest

from machine import MachineError, Reply, UnsupportedError, dcb, nla
from machine.live import Live
from tests.machine.conftest import Namespace
from wire.policy import Request, Values

EIGHT = ctypes.c_uint8 * 8


class Ets(ctypes.Structure):
    """struct ieee_ets"""

    _fields_ = (
        *((name, ctypes.c_uint8) for name in ("willing", "ets_cap", "cbs")),
        *((name, EIGHT) for name in ("tc_tx_bw", "tc_rx_bw", "tc_tsa", "prio_tc")),
        *((name, EIGHT) for name in ("tc_reco_bw", "tc_reco_tsa", "reco_prio_tc")),
    )


class Pfc(ctypes.Structure):
    """struct ieee_pfc"""

    _fields_ = (
        *((name, ctypes.c_uint8) for name in ("pfc_cap", "pfc_en", "mbc")),
        ("delay", ctypes.c_uint16),
        ("requests", ctypes.c_uint64 * 8),
        ("indications", ctypes.c_uint64 * 8),
    )


class App(ctypes.Structure):
    """struct dcb_app"""

    _fields_ = (("selector", ctypes.c_uint8), ("priority", ctypes.c_uint8), ("protocol", ctypes.c_uint16))


class Driver(Live):
    """A NIC with PFC, ETS, trust and an application table, as net/dcb/dcbnl.c keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.ets = Ets(ets_cap=8, tc_tx_bw=EIGHT(100), tc_tsa=EIGHT(*[2] * 8), tc_reco_bw=EIGHT(7))
        self.pfc = Pfc(pfc_cap=8, delay=9, requests=(ctypes.c_uint64 * 8)(1, 2, 3))
        self.trust = [255]
        self.apps = {(1, 0x8915, 3)}
        self.fails = 0

    def rtnl(self, kind: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        family, command, pad = payload[0], payload[1], payload[2:4]
        assert (family, pad, dump) == (0, b"\0\0", False)
        found = nla.table(payload, 4)
        assert nla.string(found[1]) == "eth0"
        if kind == 78:
            assert command == 21
            return [Reply(78, bytes([0, 21, 0, 0]) + self._answer())]
        assert kind == 79
        error = self.fails if command == 20 else 0
        if error:
            self.fails = 0
        else:
            self._take(command, nla.table(found[13]))
        return [Reply(79, bytes([0, command, 0, 0]) + nla.u8(13, -error & 0xFF))]

    def _answer(self) -> bytes:
        apps = [nla.attr(1, bytes(App(each[0], each[2], each[1]))) for each in sorted(self.apps)]
        trust = [nla.u8(2 if each == 255 else 1, each) for each in self.trust]
        parts = [nla.attr(1, bytes(self.ets)), nla.attr(2, bytes(self.pfc)), nla.nest(3, *apps), nla.nest(11, *trust)]
        return nla.text(1, "eth0") + nla.nest(13, *parts) + nla.u8(14, 1 | 8)

    def _take(self, command: int, ieee: dict[int, bytes]) -> None:
        if 1 in ieee:
            self.ets = Ets.from_buffer_copy(ieee[1])
        if 2 in ieee:
            self.pfc = Pfc.from_buffer_copy(ieee[2])
        if 11 in ieee:
            self.trust = [nla.number(value) for _, value in nla.items(ieee[11])]
        for at, value in nla.items(ieee.get(3, b"")):
            app: Any = App.from_buffer_copy(value)
            assert at == 1
            entry = (app.selector, app.protocol, app.priority)
            if command == 20:
                self.apps.add(entry)
            else:
                self.apps.remove(entry)


def change(before: Values, after: Values) -> Request:
    return Request("dcb", before, after, 2, "eth0")


WANTED: Values = {
    "pfc": "3,4",
    "bandwidth": "60,0,0,40,0,0,0,0",
    "tsa": "ets,ets,ets,ets,strict,strict,strict,strict",
    "prio_tc": "0,0,0,3,3,0,0,0",
    "trust": "dscp,pcp",
    "dscp": "26:3,48:6",
}


def test_structs_are_as_long_as_the_kernels() -> None:
    assert (ctypes.sizeof(Ets), ctypes.sizeof(Pfc), ctypes.sizeof(App)) == (59, 136, 4)
    assert Pfc.requests.offset == 8


def test_what_a_driver_says_is_read() -> None:
    found = dcb.read(Driver(), "eth0")
    assert (found.dcbx, found.pfc_capable, found.pfc, found.classes) == (["host", "ieee"], 8, [], 8)
    assert (found.bandwidth, found.tsa) == ([100, 0, 0, 0, 0, 0, 0, 0], ["ets"] * 8)
    assert (found.trust, found.dscp) == (["pcp"], {})


def test_all_is_set_and_comes_back_and_the_rest_stays() -> None:
    driver = Driver()
    before = dcb.read_values(driver, change({}, WANTED))
    dcb.set_values(driver, change(before, WANTED))
    assert dcb.read_values(driver, change({}, WANTED)) == WANTED
    assert driver.pfc.pfc_en == 0b11000
    assert list(driver.ets.tc_tsa) == [2, 2, 2, 2, 0, 0, 0, 0]
    assert (driver.pfc.delay, driver.pfc.pfc_cap, list(driver.ets.tc_reco_bw)[:2]) == (9, 8, [7, 0])
    assert driver.trust == [5, 255]
    assert driver.apps == {(1, 0x8915, 3), (5, 26, 3), (5, 48, 6)}

    dcb.set_values(driver, change(WANTED, before))
    assert dcb.read_values(driver, change({}, WANTED)) == before
    assert driver.apps == {(1, 0x8915, 3)}


def test_an_error_in_the_answer_is_one_and_nothing_is_left_half_done() -> None:
    driver = Driver()
    before = dcb.read_values(driver, change({}, WANTED))
    driver.fails = errno.EOPNOTSUPP
    with pytest.raises(UnsupportedError, match="eth0: data centre bridging: Operation not supported"):
        dcb.set_values(driver, change(before, WANTED))
    driver.fails = errno.EINVAL
    with pytest.raises(MachineError) as caught:
        dcb.set_values(driver, change(before, {"dscp": "26:3"}))
    assert caught.value.code == errno.EINVAL
    assert dcb.read_values(driver, change({}, WANTED)) == before


def test_a_driver_without_parts_is_asked_for_none() -> None:
    nothing = dcb.parse(bytes(4) + nla.text(1, "eth0") + nla.nest(13))
    assert (nothing.pfc, nothing.tsa, nothing.trust, nothing.dcbx) == (None, [], [], [])
    for name in ("pfc", "prio_tc"):
        with pytest.raises(UnsupportedError, match="the driver has no"):
            dcb.encode(nothing, {name: "3"})


@pytest.mark.root
def test_the_kernel_says_that_veth_has_none(veth: Namespace) -> None:
    machine = veth.live(Live)
    with pytest.raises(MachineError) as caught:
        dcb.read(machine, "va")
    assert isinstance(caught.value, UnsupportedError)
