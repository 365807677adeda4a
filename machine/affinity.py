"""The CPUs that threads of one process may run on: sched_setaffinity(2), read back from /proc."""

import contextlib
import os
import re

from machine import DeniedError, Machine, MachineError, NotPresentError, failure
from wire.cpulist import format_cpulist, parse_cpulist
from wire.policy import Request, Values

_CGROUPS = "/sys/fs/cgroup"
_ALLOWED = re.compile(r"^Cpus_allowed_list:\s*(\S+)", re.MULTILINE)


def read(machine: Machine, op: Request) -> Values:
    """Thread id -> CPU list; a thread that has ended has whatever is asked for: nothing is left to do or to undo."""
    if not _lives(machine, op.item):
        return dict(op.after)
    pid = op.item.split(":")[0]
    found: Values = {}
    for thread, wanted in op.after.items():
        try:
            match = _ALLOWED.search(machine.read(f"/proc/{pid}/task/{thread}/status"))
        except NotPresentError:
            match = None
        found[thread] = format_cpulist(parse_cpulist(match[1])) if match else wanted
    return found


def _lives(machine: Machine, item: str) -> bool:
    """True while the process of `PID:START:NAME` is the same one: a pid is used again, with another start."""
    pid, start, _ = item.split(":", 2)
    try:
        fields = machine.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except NotPresentError:
        return False
    return len(fields) > 19 and fields[19] == start


def _of_cgroup(machine: Machine, pid: str) -> set[int]:
    """The CPUs of the nearest cgroup above the process that has some of its own; none without cgroup v2."""
    lines = machine.read(f"/proc/{pid}/cgroup").splitlines()
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "").rstrip("/")
    for above in (path, *(path[:at] for at in range(len(path) - 1, -1, -1) if path[at] == "/")):
        with contextlib.suppress(NotPresentError):
            return set(parse_cpulist(machine.read(f"{_CGROUPS}{above}/cpuset.cpus.effective")))
    return set()


def _possible(machine: Machine) -> list[int]:
    return parse_cpulist(machine.read("/sys/devices/system/cpu/possible"))


def write(machine: Machine, op: Request) -> None:
    """Set the CPUs of every thread that still is there. Raises MachineError.

    All CPUs of its cgroup mean every CPU there is, so that a thread that was free follows its cgroup again.
    """
    if not _lives(machine, op.item):
        return
    whole = _of_cgroup(machine, op.item.split(":")[0])
    for thread, cpus in op.after.items():
        try:
            wanted = parse_cpulist(str(cpus))
            os.sched_setaffinity(int(thread), _possible(machine) if whole and whole <= set(wanted) else wanted)
        except ProcessLookupError:
            continue
        except PermissionError:
            raise DeniedError(f"thread {thread} of {op.item}: not ours to move") from None
        except OSError as error:
            raise failure(error.errno or 0, f"thread {thread} of {op.item} to CPUs {cpus}") from None
        except ValueError:
            raise MachineError(f"{cpus!r} is no list of CPUs") from None
