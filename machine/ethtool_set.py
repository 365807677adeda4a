"""Ethtool netlink set requests through pyroute2; imported by a transaction only, 25 MB and an event loop come with it.

A socket per request: pyroute2 keeps every trailing ACK of a long-lived one. Not from inside a running event loop.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Mapping
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST, genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import AsyncGenericNetlinkSocket, GenericNetlinkSocket
from pyroute2.netlink.generic.ethtool import ethtoolbitset, ethtoolheader

from machine import MachineError, ethtool, failure
from wire.policy import Value

_MAX = 1 << 32
_FEATURES = {2: "hw", 3: "wanted", 4: "active", 5: "nochange"}


class Knob:
    """One kind of set request: its command and its attributes by number."""

    def __init__(self, command: int, names: Mapping[int, str]) -> None:
        self.command = command
        self.settable = frozenset(name for name in names.values() if not name.endswith("_max"))
        kinds = [("unspec", "none"), ("header", "ethtoolheader")]
        kinds += [(names[at], "uint8" if names[at] in ethtool.BYTES else "uint32") for at in sorted(names)]
        attributes = {"nla_map": tuple(kinds), "ethtoolheader": ethtoolheader}
        self.message: type[Any] = type("ethtool_message", (genlmsg,), attributes)


class _FeaturesMessage(genlmsg):  # type: ignore[misc]
    nla_map = (("unspec", "none"), ("header", "ethtoolheader"), *((name, "bitset") for name in _FEATURES.values()))
    ethtoolheader = ethtoolheader
    bitset = ethtoolbitset


KNOBS = {
    "rings": Knob(ethtool.RINGS_SET, ethtool.RINGS),
    "channels": Knob(ethtool.CHANNELS_SET, ethtool.CHANNELS),
    "coalesce": Knob(ethtool.COALESCE_SET, ethtool.COALESCE),
}


class _AsyncSocket(AsyncGenericNetlinkSocket):  # type: ignore[misc]
    async def submit(self, message: Any, message_class: type[Any]) -> None:
        await self.bind(ethtool.FAMILY, message_class)
        request = await self.nlm_request(message, msg_type=self.prid, msg_flags=NLM_F_REQUEST | NLM_F_ACK)
        async for _ in request:
            pass


class _Socket(GenericNetlinkSocket):  # type: ignore[misc]
    async_class = _AsyncSocket

    def submit(self, message: Any, message_class: type[Any]) -> None:
        self._run_with_cleanup(self.asyncore.submit, message, message_class)


def set_numbers(ifindex: int, knob: str, values: Mapping[str, Value]) -> None:
    """Set rings, channels or coalesce of one NIC in one request. Raises MachineError with the kernel's own words."""
    table = KNOBS[knob]
    for name, value in values.items():
        if name not in table.settable:
            raise MachineError(f"{knob} has no {name!r} to set")
        if not isinstance(value, int) or not 0 <= value < _MAX:
            raise MachineError(f"{knob} {name}: {value!r} is not a number of 32 bits")
    _submit(ifindex, table.command, table.message, [[name, int(value)] for name, value in values.items()], knob)


def set_features(ifindex: int, values: Mapping[str, Value]) -> None:
    """Ask for offloads on or off in one request; the kernel does what it can, so read again. Raises MachineError."""
    bits = [_bit(name, on=bool(value)) for name, value in values.items()]
    wanted = {"attrs": [["ETHTOOL_A_BITSET_BITS", {"attrs": bits}]]}
    _submit(ifindex, ethtool.FEATURES_SET, _FeaturesMessage, [["wanted", wanted]], "features")


def _bit(name: str, *, on: bool) -> list[Any]:
    attributes: list[list[Any]] = [["ETHTOOL_A_BITSET_BIT_NAME", name]]
    if on:
        attributes.append(["ETHTOOL_A_BITSET_BIT_VALUE", True])
    return ["ETHTOOL_A_BITSET_BITS_BIT", {"attrs": attributes}]


def _submit(ifindex: int, command: int, message_class: type[Any], attributes: list[list[Any]], what: str) -> None:
    message = message_class()
    message["cmd"], message["version"] = command, 1
    message["attrs"] = [["header", {"attrs": [["ETHTOOL_A_HEADER_DEV_INDEX", ifindex]]}], *attributes]
    what = f"set {what} of interface {ifindex}"
    try:
        with _Socket(ext_ack=True) as channel:
            channel.submit(message, message_class)
    except NetlinkError as error:
        raise failure(error.code, what, str(error.args[1])) from None
    except OSError as error:
        raise failure(error.errno or 0, what) from None
