"""Which virtual functions are ours: a file below /run, which ends with the boot as they do, and outlives the agent.

An entry is part of the values of the request that makes or removes functions: it is planned, journalled, verified and
undone with them. What somebody else made has none.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from machine import Machine, MachineError, failure

PATH = "/run/rackhand/ledger.json"


class Entry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What we hold of one device."""

    vfs: int = 0  # virtual functions that we made
    unbound: dict[str, str] = {}  # PCI address -> driver of those that wait for it while the switch's mode changes


_LEDGER = msgspec.json.Decoder(dict[str, Entry])


def read(machine: Machine) -> dict[str, Entry]:
    """The entries by device ("pci/0000:3b:00.0"); none where there is no such file, or it is spoilt."""
    with contextlib.suppress(MachineError, msgspec.DecodeError):
        return _LEDGER.decode(machine.read(PATH))
    return {}


def entry(machine: Machine, device: str) -> Entry:
    """What we hold of a device; an empty entry when nothing."""
    return read(machine).get(device, Entry())


def write(machine: Machine, device: str, now: Entry) -> None:
    """Replace the device's entry, whole or not at all. Raises MachineError."""
    entries: Mapping[str, Entry] = {**read(machine), device: now}
    kept = {name: one for name, one in entries.items() if one != Entry()}
    path = Path(PATH)
    fresh = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh.write_bytes(msgspec.json.encode(kept, order="deterministic"))
        fresh.replace(path)
    except OSError as error:
        raise failure(error.errno or 0, PATH) from None
