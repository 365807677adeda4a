"""What a knob says about itself: when and on what it works, and its row in the README."""

import enum
from typing import NamedTuple

from tuners import quirks
from wire.policy import Blast


class Stage(enum.StrEnum):
    """When a knob is applied: facts are read again between two stages."""

    DEVICE = "device"  # what there is: firmware, functions, links; may take interfaces away and bring new ones
    SHAPE = "shape"  # channels, rings, offloads, coalesce: may recreate queues and interrupts
    PLACE = "place"  # irq_affinity, xps, rps, and the host's own: which CPU does the work, and how
    PROGRAM = "program"  # what runs in the packet path, last: it restricts all that is above


class Scope(enum.StrEnum):
    """What one setting of a knob is about."""

    NIC = "nic"
    HOST = "host"


class About(NamedTuple):
    """What a knob says about itself: when and on what it works, and its row in the README."""

    stage: Stage
    what: str  # the knob in a few words
    interface: str  # which kernel interface
    unit: str
    undo: str  # how what was there before comes back
    blast: Blast = Blast.SAFE  # the worst of its changes
    scope: Scope = Scope.NIC
    facts: tuple[str, ...] = ("nic",)  # collectors whose facts it plans from
    recreates: bool = False  # queues, interrupts or interfaces: later stages wait until they were read again
    quirks: str = ""  # of the knob itself; those of drivers, firmware and kernels are in quirks.yaml


def row(name: str, about: About) -> str:
    """A knob's line of the README's table."""
    cells = (f"`{name}`", about.stage, about.scope, about.what, about.interface, about.unit, about.blast, about.undo)
    known = "; ".join(filter(None, (about.quirks, *quirks.column(name)))) or "none known"
    return f"| {' | '.join((*cells, known))} |"
