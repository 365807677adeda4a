"""Groups of resctrl: made and removed as directories, tasks moved by writing them; under any root."""

import errno
from pathlib import Path

from machine import Machine, MachineError, NotPresentError, Writer, failure
from machine.live import Live
from wire.policy import Request, Values

ROOT = "/sys/fs/resctrl"


def folder(group: str) -> str:
    """The group's directory; "" is the default group."""
    return f"{ROOT}/{group}" if group else ROOT


def read_group(machine: Machine, op: Request) -> Values:
    """Whether there is the group of that name; raises NotPresentError where resctrl is not mounted."""
    return {"exists": op.item in machine.names(ROOT)}


def write_group(machine: Machine, op: Request) -> None:
    """Make or remove it; what a removed group had goes back to the default one. Raises MachineError."""
    above = machine.path(ROOT) if isinstance(machine, Live) else ROOT
    there = Path(above) / op.item
    try:
        if op.after["exists"] is True:
            there.mkdir()
        else:
            there.rmdir()
    except OSError as error:
        why = "every class of service is taken" if error.errno == errno.ENOSPC else ""
        raise failure(error.errno or 0, folder(op.item), why) from None


def read_tasks(machine: Machine, op: Request) -> Values:
    """Thread id -> its group, of the two that are asked about; a thread that has ended is in the one asked for."""
    lists = {str(group): _tasks(machine, str(group)) for group in {*op.before.values(), *op.after.values()}}
    found: Values = {}
    for thread, wanted in op.after.items():
        groups = [group for group, tasks in lists.items() if thread in tasks]
        found[thread] = groups[0] if groups or _runs(machine, thread) else wanted
    return found


def _tasks(machine: Machine, group: str) -> set[str]:
    try:
        return set(machine.read(f"{folder(group)}/tasks").split())
    except NotPresentError:
        return set()


def _runs(machine: Machine, thread: str) -> bool:
    try:
        machine.read(f"/proc/{thread}/stat")
    except MachineError:
        return False
    return True


def write_tasks(machine: Writer, op: Request) -> None:
    """Move the threads, one write each; those that have ended meanwhile are left out. Raises MachineError."""
    for thread, group in op.after.items():
        try:
            machine.write(f"{folder(str(group))}/tasks", thread)
        except NotPresentError:
            if _runs(machine, thread):
                raise
