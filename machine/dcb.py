"""Data centre bridging of a NIC (dcbnl, linux/dcbnl.h): PFC, ETS, trust and DSCP by the IEEE commands.

The kernel answers a set with the driver's error in a byte, while the request itself succeeds.
"""

import contextlib
import errno
import struct
from typing import NamedTuple

from machine import Machine, MachineError, UnsupportedError, failure, nla
from wire.lldp import TSA
from wire.policy import Request, Values

GETDCB, SETDCB = 78, 79  # RTM_
IEEE_SET, IEEE_GET, IEEE_DEL = 20, 21, 27  # DCB_CMD_
IFNAME, IEEE, DCBX = 1, 13, 14  # DCB_ATTR_
ETS, PFC, APP_TABLE, TRUST_TABLE = 1, 2, 3, 11  # DCB_ATTR_IEEE_, DCB_ATTR_DCB_
_APP, _OTHER_APP = 1, 2  # attributes of the tables: a selector of 802.1Qaz, PCP
SELECTORS = {1: "ethertype", 2: "stream", 3: "dgram", 4: "any", 5: "dscp", 255: "pcp"}
DSCP = 5
MODES = {1: "host", 2: "lld", 4: "cee", 8: "ieee", 16: "static"}  # DCB_CAP_DCBX_
_NUMBERS = {name: number for number, name in SELECTORS.items()}
_TSA = {name: number for number, name in TSA.items()}

_MESSAGE = struct.Struct("=BBH")  # family, command, pad
_ETS = struct.Struct("=3B8s8s8s8s8s8s8s")  # willing, ets_cap, cbs, tx, rx, tsa, prio_tc, and three recommended
_PFC = struct.Struct("=BBBxHxx8Q8Q")  # pfc_cap, pfc_en, mbc, delay, requests, indications
_ENTRY = struct.Struct("=BBH")  # selector, priority, protocol


class Bridging(NamedTuple):
    """What a NIC says; None and empty where its driver says nothing. The raw structs are for a set of some fields."""

    dcbx: list[str]
    pfc_capable: int | None
    pfc: list[int] | None
    classes: int | None
    bandwidth: list[int]
    tsa: list[str]
    prio_tc: list[int]
    trust: list[str]
    dscp: dict[int, int]
    raw_ets: bytes = b""
    raw_pfc: bytes = b""


def request(command: int, ifname: str, *attributes: bytes) -> bytes:
    """The payload of a request: header, interface, and what it says."""
    return _MESSAGE.pack(0, command, 0) + nla.text(IFNAME, ifname) + b"".join(attributes)


def read(machine: Machine, ifname: str) -> Bridging:
    """The bridging of one NIC; raises UnsupportedError where its driver has none."""
    for reply in machine.rtnl(GETDCB, request(IEEE_GET, ifname)):
        return parse(reply.payload)
    raise UnsupportedError(f"{ifname}: no answer about data centre bridging")


def parse(payload: bytes) -> Bridging:
    """A reply to DCB_CMD_IEEE_GET."""
    top = nla.table(payload, _MESSAGE.size)
    ieee = nla.table(top.get(IEEE, b""))
    ets, pfc = ieee.get(ETS, b""), ieee.get(PFC, b"")
    modes = nla.number(top.get(DCBX, b""))
    capable, enabled = (pfc[0], pfc[1]) if len(pfc) >= 2 else (None, None)
    classes, tx, tsa, prio_tc = _shares(ets) if len(ets) == _ETS.size else (None, b"", b"", b"")
    selectors = [nla.number(value) for _, value in nla.items(ieee.get(TRUST_TABLE, b""))]
    entries = [_ENTRY.unpack(value) for _, value in nla.items(ieee.get(APP_TABLE, b"")) if len(value) == _ENTRY.size]
    return Bridging(
        dcbx=[name for bit, name in MODES.items() if modes & bit],
        pfc_capable=capable,
        pfc=None if enabled is None else [prio for prio in range(8) if enabled >> prio & 1],
        classes=classes,
        bandwidth=list(tx),
        tsa=[TSA.get(number, str(number)) for number in tsa],
        prio_tc=list(prio_tc),
        trust=[SELECTORS.get(number, str(number)) for number in selectors],
        dscp={protocol: priority for selector, priority, protocol in sorted(entries) if selector == DSCP},
        raw_ets=ets,
        raw_pfc=pfc,
    )


def _shares(ets: bytes) -> tuple[int, bytes, bytes, bytes]:
    """Classes, shares, algorithms, and the class of each priority, of a struct ieee_ets."""
    fields = _ETS.unpack(ets)
    return fields[1], fields[3], fields[5], fields[6]


def read_values(machine: Machine, op: Request) -> Values:
    """The bridging in flat texts. Raises MachineError."""
    return spell(read(machine, op.ifname))


def spell(found: Bridging) -> Values:
    """`pfc` "3,4", `bandwidth`, `tsa`, `prio_tc` by class or priority, `trust` "dscp", `dscp` "26:3,48:6"."""
    return {
        "pfc": ",".join(map(str, found.pfc or [])),
        "bandwidth": ",".join(map(str, found.bandwidth)),
        "tsa": ",".join(found.tsa),
        "prio_tc": ",".join(map(str, found.prio_tc)),
        "trust": ",".join(found.trust),
        "dscp": ",".join(f"{dscp}:{priority}" for dscp, priority in sorted(found.dscp.items())),
    }


def set_values(machine: Machine, op: Request) -> None:
    """Set what the request names; after a refusal all is as it was. Raises MachineError."""
    now = read(machine, op.ifname)
    before = {name: value for name, value in spell(now).items() if name in op.after}
    try:
        _set(machine, op.ifname, now, op.after)
    except MachineError:
        with contextlib.suppress(MachineError):
            _set(machine, op.ifname, read(machine, op.ifname), before)
        raise


def _set(machine: Machine, ifname: str, now: Bridging, wanted: Values) -> None:
    if attributes := encode(now, wanted):
        _ask(machine, IEEE_SET, ifname, attributes)
    if "dscp" in wanted:
        listed = dict(entry.split(":") for entry in str(wanted["dscp"]).split(",") if entry)
        target = {int(dscp): int(priority) for dscp, priority in listed.items()}
        gone = {dscp: priority for dscp, priority in now.dscp.items() if target.get(dscp) != priority}
        new = {dscp: priority for dscp, priority in target.items() if now.dscp.get(dscp) != priority}
        for command, entries in ((IEEE_SET, new), (IEEE_DEL, gone)):
            if entries:
                _ask(machine, command, ifname, encode_dscp(entries))


def encode(now: Bridging, wanted: Values) -> bytes:
    """The attributes of ETS, PFC and trust that are wanted, the rest of each struct as it is. Raises MachineError."""
    parts: list[bytes] = []
    if {"bandwidth", "tsa", "prio_tc"} & wanted.keys():
        if len(now.raw_ets) != _ETS.size:
            raise UnsupportedError("the driver has no ETS")
        fields = list(_ETS.unpack(now.raw_ets))
        fields[3] = _bytes(wanted.get("bandwidth"), fields[3])
        fields[5] = bytes(_TSA[word] for word in str(wanted["tsa"]).split(",")) if "tsa" in wanted else fields[5]
        fields[6] = _bytes(wanted.get("prio_tc"), fields[6])
        parts.append(nla.attr(ETS, _ETS.pack(*fields)))
    if "pfc" in wanted:
        if len(now.raw_pfc) != _PFC.size:
            raise UnsupportedError("the driver has no PFC")
        enabled = sum(1 << int(priority) for priority in str(wanted["pfc"]).split(",") if priority)
        parts.append(nla.attr(PFC, now.raw_pfc[:1] + bytes([enabled]) + now.raw_pfc[2:]))
    if "trust" in wanted:
        words = [word for word in str(wanted["trust"]).split(",") if word]
        selectors = [nla.u8(_OTHER_APP if word == "pcp" else _APP, _NUMBERS[word]) for word in words]
        parts.append(nla.nest(TRUST_TABLE, *selectors))
    return b"".join(parts)


def encode_dscp(entries: dict[int, int]) -> bytes:
    """The application table of these DSCPs and their priorities."""
    packed = [nla.attr(_APP, _ENTRY.pack(DSCP, priority, dscp)) for dscp, priority in sorted(entries.items())]
    return nla.nest(APP_TABLE, *packed)


def _bytes(text: object, old: bytes) -> bytes:
    return old if text is None else bytes(int(word) for word in str(text).split(","))


def _ask(machine: Machine, command: int, ifname: str, attributes: bytes) -> None:
    what = f"{ifname}: data centre bridging"
    for reply in machine.rtnl(SETDCB, request(command, ifname, nla.nest(IEEE, attributes))):
        code = nla.number(nla.table(reply.payload, _MESSAGE.size).get(IEEE, b""))
        if code:
            raise failure(256 - code if code < 256 else errno.EINVAL, what)
