"""XDP programs on interfaces: whose they are, what ours are set to and have counted.

State is found through the kernel alone: netlink names the program on an interface, and a root of ours leads to its
chain and maps. Names in bpffs only keep them alive.
"""

import contextlib
import os
import struct
from collections.abc import Generator
from typing import Any, NamedTuple

from machine import Machine, MachineError, NotPresentError, bpf, nla, rtnl, xdp_load, xdp_values
from wire.xdp import NOTHING, PROGRAMS, canonical

_IFINFO = struct.Struct("=BxHiII")
_SKIP_STATS = nla.u32(29, 8)
_IFLA_XDP, _ATTACHED, _PROG_ID = 43, 2, 4
_WANTED = frozenset({_IFLA_XDP})
_BY_MODE = {1: 5, 2: 6, 3: 7}  # IFLA_XDP_{DRV,SKB,HW}_PROG_ID
MODES = ("", "native", "generic", "hardware", "multiple")
OURS = "rackhand"
OWNERS = {  # names of the programs that others put on interfaces
    xdp_load.ROOT: OURS,
    xdp_load.CANARY: OURS,
    "xdp_dispatcher": "libxdp",
    "cil_xdp_entry": "cilium",
    "bpf_xdp_entry": "cilium",
    "xdp_root": "katran",
    "balancer_ingress": "katran",
}
_NAMED = {name: program for program, name in xdp_load.NAMES.items()}
_SETTINGS = ("rh_pulse", "rh_conf", "rh_acl4", "rh_acl6", "rh_workers")


class Attached(NamedTuple):
    """The program on one interface: its id (0 for none) and its mode, a word of `MODES`."""

    program: int = 0
    mode: str = ""


def link_header(ifindex: int) -> bytes:
    """The struct ifinfomsg of a request about one interface."""
    return _IFINFO.pack(0, 0, ifindex, 0, 0)


def read_attached(machine: Machine) -> dict[int, Attached]:
    """ifindex -> what is on it, for every interface of the namespace. Raises MachineError."""
    replies = machine.rtnl(rtnl.GETLINK, link_header(0) + _SKIP_STATS, dump=True)
    return dict(parse_attached(reply.payload) for reply in replies)


def read_attached_to(machine: Machine, ifindex: int) -> Attached:
    """What is on one interface; raises NotPresentError when that is gone."""
    replies = machine.rtnl(rtnl.GETLINK, link_header(ifindex) + _SKIP_STATS)
    return parse_attached(replies[0].payload)[1] if replies else Attached()


def parse_attached(payload: bytes) -> tuple[int, Attached]:
    """ifindex and program of one RTM_NEWLINK message; raises MachineError when it is cut."""
    if len(payload) < 16:
        raise MachineError(f"link message of {len(payload)} bytes is too short")
    ifindex = _IFINFO.unpack_from(payload)[2]
    found = nla.table(nla.pick(payload, 16, _WANTED).get(_IFLA_XDP, b""))
    mode = nla.number(found.get(_ATTACHED, b""))
    if not mode or mode >= len(MODES):
        return ifindex, Attached()
    program = found.get(_PROG_ID) or found.get(_BY_MODE.get(mode, 0), b"")
    return ifindex, Attached(nla.number(program), MODES[mode])


class Held:
    """Descriptors of what a root of ours holds, by name, until it is closed."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.info = bpf.program(root)
        self.maps: dict[str, int] = {}
        self.ids: dict[str, int] = {}
        self.chain: list[str] = []

    def close(self) -> None:
        """Give the descriptors back."""
        for handle in (self.root, *self.maps.values()):
            os.close(handle)

    def find(self) -> None:
        """Follow the root to its maps and its chain to theirs. Raises MachineError."""
        self._add(self.info.maps)
        slots = self.maps.get("rh_slots")
        found: set[str] = set()
        for slot in range(len(PROGRAMS)):
            raw = bpf.lookup(slots, xdp_values.number(slot), 4) if slots is not None else None
            if raw is None:
                continue
            handle = bpf.program_by_id(int.from_bytes(raw, "little"))
            try:
                info = bpf.program(handle)
            finally:
                os.close(handle)
            self._add(info.maps)
            found.add(_NAMED.get(info.name, ""))
        self.chain = [program for program in PROGRAMS if program in found]

    def _add(self, numbers: list[int]) -> None:
        for number in set(numbers) - set(self.ids.values()):
            handle = bpf.map_by_id(number)
            name = bpf.map_of(handle).name
            self.maps[name], self.ids[name] = handle, number

    def entries(self, name: str) -> xdp_values.Entries:
        """Every entry of one of the maps; none when it is not there."""
        if name not in self.maps:
            return {}
        handle = self.maps[name]
        shape = bpf.map_of(handle)
        size = (shape.value + 7 & ~7) * xdp_load.possible_cpus() if shape.type in bpf.PERCPU else shape.value
        pairs = ((key, bpf.lookup(handle, key, size)) for key in bpf.keys(handle, shape.key))
        return {key: value for key, value in pairs if value is not None}

    def settings(self, mode: str) -> dict[str, str | int | bool]:
        """What the chain is set to, canonical."""
        maps = {name: self.entries(name) for name in _SETTINGS}
        return canonical({**xdp_values.read_settings(self.chain, maps), "mode": mode})


@contextlib.contextmanager
def held(program: int) -> Generator[Held]:
    """What the root of ours with this id holds; raises NotPresentError when it is gone, DeniedError."""
    made = Held(bpf.program_by_id(program))
    try:
        made.find()
        yield made
    finally:
        made.close()


def describe(program: int) -> dict[str, Any]:
    """A program by its id: name, tag, owner ("other" for an unknown one), and settings and counters of ours."""
    handle = bpf.program_by_id(program)
    try:
        info = bpf.program(handle)
    finally:
        os.close(handle)
    owner = OWNERS.get(info.name, "other")
    said: dict[str, Any] = {"name": info.name, "tag": info.tag, "owner": owner, "settings": {}, "stats": {}}
    if owner == OURS:
        with held(program) as ours:
            said["settings"] = ours.settings("")
            said["stats"] = xdp_values.read_stats(ours.entries("rh_stats"))
    return said


def read(machine: Machine, ifindex: int) -> dict[str, str | int | bool]:
    """What is ours on one interface, as settings; somebody else's program is nothing of ours. Raises MachineError."""
    attached = read_attached_to(machine, ifindex)
    if not attached.program or not is_ours(attached.program):
        return dict(NOTHING)
    with held(attached.program) as ours:
        if not ours.chain:  # a canary, or a chain that lost its slots: nothing that was asked for
            return {**NOTHING, "mode": attached.mode}
        return ours.settings(attached.mode)


def is_ours(program: int) -> bool:
    """True for a program that this project put there; raises MachineError when that cannot be known."""
    try:
        handle = bpf.program_by_id(program)
    except NotPresentError:
        return False
    try:
        return OWNERS.get(bpf.program(handle).name) == OURS
    finally:
        os.close(handle)
