"""CPUs and memory nodes of systemd's units: set through systemd until the next boot, read from their cgroups."""

import time
from collections.abc import Mapping

from machine import Machine, MachineError, NotPresentError, VanishedError
from wire.cpulist import format_cpulist, parse_cpulist
from wire.policy import Request, Values

CGROUPS = "/sys/fs/cgroup"
REALIZED_S = 5.0
FILES = {"AllowedCPUs": "cpuset.cpus", "AllowedMemoryNodes": "cpuset.mems"}


def read(machine: Machine, op: Request) -> Values:
    """What the cgroup at `op.item` has; of a unit that is gone or not running, what systemd would give it."""
    return {name: _normal(_text(machine, op.item, name)) for name in op.after}


def _text(machine: Machine, path: str, name: str) -> str:
    try:
        return machine.read(f"{CGROUPS}{path}/{FILES[name]}")
    except NotPresentError:
        pass
    try:
        machine.names(CGROUPS + path)
    except NotPresentError:
        return _from_systemd(machine, path, name)
    return ""  # its parent gives it no cpuset of its own


def _from_systemd(machine: Machine, path: str, name: str) -> str:
    """What it would get if it ran; raises VanishedError when systemd does not know it any more."""
    said = machine.command("systemctl", "show", "--property=LoadState", f"--property={name}", "--", unit(path))
    values = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    if values.get("LoadState") == "not-found":
        raise VanishedError(f"{unit(path)} is gone")
    return values.get(name, "")


def unit(path: str) -> str:
    """The unit's name."""
    return path.rpartition("/")[2]


def _normal(text: str) -> str:
    """A list in the kernel's spelling; systemd puts spaces between."""
    return format_cpulist(parse_cpulist(text.replace(" ", ",")))


def write(machine: Machine, op: Request) -> None:
    """`systemctl set-property --runtime`; raises MachineError with systemd's words.

    A limit that is taken away is made as wide as the parent's first: systemd only switches the controller off then,
    and the kernel leaves threads where they were.
    """
    if wide := {name: text for name, value in op.after.items() if not value and (text := _parents(machine, op, name))}:
        _set(op.item, {**wide})
        _realized(machine, op.item, wide)
    _set(op.item, op.after)


def _realized(machine: Machine, path: str, values: Mapping[str, str]) -> None:
    """Wait, not for ever, until the cgroup has it: systemd answers first and does it a turn later."""
    until = time.monotonic() + REALIZED_S
    while any(_text(machine, path, name) != text for name, text in values.items()) and time.monotonic() < until:
        time.sleep(0.02)


def _parents(machine: Machine, op: Request, name: str) -> str:
    """What the parent may use, "" where the unit has no limit of its own in force."""
    above = op.item.rpartition("/")[0]
    try:
        limited = machine.read(f"{CGROUPS}{op.item}/{FILES[name]}")
        return machine.read(f"{CGROUPS}{above}/{FILES[name]}.effective") if limited else ""
    except NotPresentError:
        return ""


def _set(path: str, values: Values) -> None:
    from machine import programs  # noqa: PLC0415 - subprocess is only for who needs it

    settings = [f"{name}={value}" for name, value in values.items()]
    said = programs.run("systemctl", "set-property", "--runtime", "--", unit(path), *settings)
    if said.strip():
        raise MachineError(f"systemctl: {said.strip().splitlines()[-1][:300]}")
