"""Kernel files that may be absent, unreadable or nonsense: what is not said is None or "", never a guess."""

import re

from machine import Machine, MachineError
from wire.cpulist import format_cpulist, parse_cpulist, parse_cpumask

PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def text(machine: Machine, path: str) -> str:
    """The file's text, "" when it is not there or cannot be read."""
    try:
        return machine.read(path)
    except MachineError:
        return ""


def names(machine: Machine, path: str) -> list[str]:
    """Sorted names in a directory, none when it is not there."""
    try:
        return machine.names(path)
    except MachineError:
        return []


def number(machine: Machine, path: str) -> int | None:
    """The decimal integer in a file; None for anything else."""
    return parse_number(text(machine, path))


def node(machine: Machine, path: str) -> int | None:
    """A NUMA node's id; the kernel's -1 means that it does not know."""
    found = number(machine, path)
    return found if found is not None and found >= 0 else None


def cpulist(machine: Machine, path: str) -> str:
    """A kernel CPU list in normal form, "" when there is none."""
    return normal_cpulist(text(machine, path))


def link_path(machine: Machine, path: str) -> str:
    """What a symbolic link says, "" when there is no link."""
    try:
        return machine.target(path)
    except MachineError:
        return ""


def link_name(machine: Machine, path: str) -> str:
    """The last part of what a symbolic link says, "" when there is no link."""
    return link_path(machine, path).rpartition("/")[2]


def resolve(machine: Machine, path: str) -> str:
    """The path with its links followed, "" when it is not there."""
    try:
        return machine.resolve(path)
    except MachineError:
        return ""


def pci_addresses(path: str) -> list[str]:
    """The PCI addresses on a resolved device path, from the root down; domains may have five digits and more."""
    return [part for part in path.split("/") if PCI_ADDRESS.fullmatch(part)]


def parse_number(text: str) -> int | None:
    """The decimal integer that is the whole text; None for anything else."""
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 20 else None


def normal_cpulist(text: str) -> str:
    """A CPU list in the kernel's own spelling; "" for what is none, such as `(null)`."""
    try:
        return format_cpulist(parse_cpulist(text))
    except ValueError:
        return ""


def mask_cpulist(text: str) -> str | None:
    """The CPU list of a hex mask; None for what is no mask."""
    try:
        return format_cpulist(parse_cpumask(text)) if text else None
    except ValueError:
        return None
