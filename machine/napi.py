"""Settings of single NAPIs (netdev-genl napi-set, kernel 6.13), and on which CPUs the threads of NAPIs may run."""

import os

from machine import Machine, NotPresentError, failure, netdev, nla
from wire.cpulist import format_cpulist, parse_cpulist
from wire.policy import Request, Values

_KTHREADD = 2
_ALLOWED = "Cpus_allowed_list:"


def read_values(machine: Machine, op: Request) -> Values:
    """Of a request "napi" whose item is a NAPI's id: the names of `netdev.NAPI_SETTINGS`."""
    napi = _find(machine, op)
    values = {name: getattr(napi, name) for name in netdev.NAPI_SETTINGS}
    return {name: value for name, value in values.items() if value is not None}


def set_values(machine: Machine, op: Request) -> None:
    """Set what is named, in one request. Raises MachineError."""
    settings = [nla.u32(netdev.NAPI_SETTINGS[name], int(value)) for name, value in op.after.items()]
    payload = nla.u32(2, int(op.item)) + b"".join(settings)
    machine.genl(netdev.FAMILY, netdev.NAPI_SET, payload)


def read_cpus(machine: Machine, pid: int) -> str:
    """The CPUs of a thread, "" where they are those that every kernel thread has. Raises NotPresentError."""
    own, theirs = (parse_status(machine.read(f"/proc/{each}/status")) for each in (pid, _KTHREADD))
    return "" if own == theirs else own


def parse_status(text: str) -> str:
    """The CPUs a process may run on, from /proc/PID/status."""
    lines = (line.removeprefix(_ALLOWED) for line in text.splitlines() if line.startswith(_ALLOWED))
    return format_cpulist(parse_cpulist(next(lines, "")))


def read_thread(machine: Machine, op: Request) -> Values:
    """Of a request "napi_thread" whose item is a NAPI's id: `cpus` of its thread, "" also while it has none."""
    pid = _find(machine, op).pid
    return {"cpus": read_cpus(machine, pid) if pid else ""}


def set_thread(machine: Machine, op: Request) -> None:
    """Let the NAPI's thread run on these CPUs only, "" for as every kernel thread. Raises MachineError."""
    pid = _find(machine, op).pid
    if pid is None:
        raise NotPresentError(f"NAPI {op.item} of {op.ifname} has no thread")
    cpus = str(op.after["cpus"]) or parse_status(machine.read(f"/proc/{_KTHREADD}/status"))
    try:
        os.sched_setaffinity(pid, parse_cpulist(cpus))
    except OSError as error:
        raise failure(error.errno or 0, f"thread {pid} of NAPI {op.item} of {op.ifname} on CPUs {cpus}") from None


def _find(machine: Machine, op: Request) -> netdev.Napi:
    for napi in netdev.read_napis(machine, op.ifindex):
        if str(napi.id) == op.item:
            return napi
    raise NotPresentError(f"NAPI {op.item} of {op.ifname} is gone")
