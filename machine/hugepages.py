"""Huge pages of one pool ("node0/2048kB"): how many there are, and as many as asked for or an error that says why."""

import re

from machine import Machine, MachineError, Writer
from wire.policy import Request, Value, Values

TRIES = 3
_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB", re.MULTILINE)
_COMPACT = "/proc/sys/vm/compact_memory"


def folder(pool: str) -> str:
    """The pool's directory; "host/2048kB" is that of a kernel without nodes."""
    owner, _, size = pool.partition("/")
    above = "/sys/kernel/mm" if owner == "host" else f"/sys/devices/system/node/{owner}"
    return f"{above}/hugepages/hugepages-{size}"


def read(machine: Machine, op: Request) -> Values:
    """The pool's pages; the reserve is the request's own word. Raises MachineError."""
    return {"pages": read_pages(machine, op.item), "reserve_kb": op.after["reserve_kb"]}


def read_pages(machine: Machine, pool: str) -> int:
    """Pages of the pool, surplus ones included; raises MachineError."""
    return int(machine.read(f"{folder(pool)}/nr_hugepages"))


def write(machine: Writer, op: Request) -> None:
    """Ask for the pages, and again after compaction while not all come; MachineError says how many came.

    Nothing is asked for when less memory than the reserve would be left available.
    """
    wanted, got = _whole(op.after["pages"]), read_pages(machine, op.item)
    if wanted > got:
        _check_room(machine, op, wanted - got)
    for attempt in range(TRIES):
        if attempt:
            _compact(machine, op.item)
        machine.write(f"{folder(op.item)}/nr_hugepages", str(wanted))
        got = read_pages(machine, op.item)
        if got == wanted:
            return
        if got > wanted:
            raise MachineError(f"{op.item}: {got - wanted} pages more than the {wanted} asked for are in use")
    raise MachineError(f"{op.item}: {got} of {wanted} pages came, {TRIES - 1} compactions included")


def _whole(value: Value) -> int:
    if not isinstance(value, int):
        raise MachineError(f"{value!r} is no number of pages")
    return value


def _check_room(machine: Machine, op: Request, more: int) -> None:
    needed = more * int(op.item.rpartition("/")[2].removesuffix("kB"))
    found = _AVAILABLE.search(machine.read("/proc/meminfo"))
    if found is None:
        raise MachineError("/proc/meminfo does not say what is available")
    available, reserve = int(found[1]), _whole(op.after["reserve_kb"])
    if available - needed < reserve:
        what = f"{more} pages more take {needed // 1024} MiB of the {available // 1024} MiB available"
        raise MachineError(f"{op.item}: {what}, and {reserve // 1024} MiB are to be left")


def _compact(machine: Writer, pool: str) -> None:
    """Make room in one piece: on the pool's own node where the kernel has that."""
    owner = pool.partition("/")[0]
    try:
        machine.write(f"/sys/devices/system/node/{owner}/compact", "1")
    except MachineError:
        machine.write(_COMPACT, "1")
