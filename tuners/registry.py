"""The table of knobs, in the order in which they are applied: first the queues' shape, then their place."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from tuners import channels, coalesce, irq_affinity, offloads, rings, rps, xps
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Stage, Step
from wire.policy import Setting

__all__ = ["ALL", "BY_NAME", "Stage", "Tuner"]


class Tuner(Protocol):
    """One module per knob: its name in policies, when it is applied, what its values may be, and its planner."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """The knob's word in policies, settings and changes."""
        ...

    @property
    def STAGE(self) -> Stage:  # noqa: N802
        """When it is applied."""
        ...

    @property
    def VALUES(self) -> dict[str, Spec]:  # noqa: N802
        """What its values may be, by name."""
        ...

    def plan(self, settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
        """The steps from what is to what the settings say; settings are of this knob, sound, and of known NICs."""
        ...


ALL: tuple[Tuner, ...] = (channels, rings, offloads, coalesce, irq_affinity, xps, rps)

BY_NAME: dict[str, Tuner] = {tuner.NAME: tuner for tuner in ALL}
