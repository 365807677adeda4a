"""The CPUs that threads of one process may run on: sched_setaffinity(2), read back from /proc."""

import os
import re

from machine import DeniedError, Machine, MachineError, NotPresentError, failure
from wire.cpulist import format_cpulist, parse_cpulist
from wire.policy import Request, Values

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


def write(machine: Machine, op: Request) -> None:
    """Set the CPUs of every thread that still is there. Raises MachineError."""
    if not _lives(machine, op.item):
        return
    for thread, cpus in op.after.items():
        try:
            os.sched_setaffinity(int(thread), parse_cpulist(str(cpus)))
        except ProcessLookupError:
            continue
        except PermissionError:
            raise DeniedError(f"thread {thread} of {op.item}: not ours to move") from None
        except OSError as error:
            raise failure(error.errno or 0, f"thread {thread} of {op.item} to CPUs {cpus}") from None
        except ValueError:
            raise MachineError(f"{cpus!r} is no list of CPUs") from None
