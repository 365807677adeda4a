"""The table of knobs, in the order in which they are applied within their stages."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from tuners import (
    auto,
    busy_poll,
    cache,
    channels,
    coalesce,
    core_pinning,
    cpu_power,
    dcb,
    fan,
    firmware,
    irq_affinity,
    led,
    link,
    napi,
    ntuple,
    numa_memory,
    offloads,
    passthrough,
    qdisc,
    rings,
    rps,
    rss,
    sriov,
    sysctl_net,
    timestamping,
    vf,
    watchdog,
    xdp,
    xps,
)
from tuners.about import About
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step
from wire.policy import Change, Setting


class Tuner(Protocol):
    """One module per knob: its name in policies, what it says about itself, its values, and its pure planner."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """The knob's word in policies, settings and changes."""
        ...

    @property
    def ABOUT(self) -> About:  # noqa: N802
        """When and on what it works, and its row in the README."""
        ...

    @property
    def VALUES(self) -> dict[str, Spec]:  # noqa: N802
        """What its values may be, by name."""
        ...

    @property
    def plan(self) -> Callable[[Sequence[Setting], HostFacts], Iterable[Step]]:
        """The steps from what is to what the settings say; settings are of this knob, sound, and of known NICs."""
        ...

    @property
    def project(self) -> Callable[[HostFacts, Change], HostFacts]:
        """The facts as they are after one of its changes."""
        ...


ALL: tuple[Tuner, ...] = (
    firmware,
    sriov,
    passthrough,
    link,
    dcb,
    vf,
    channels,
    rings,
    offloads,
    coalesce,
    auto,
    rss,
    ntuple,
    irq_affinity,
    xps,
    rps,
    napi,
    busy_poll,
    qdisc,
    sysctl_net,
    timestamping,
    core_pinning,
    cpu_power,
    numa_memory,
    cache,
    fan,
    led,
    xdp,
    watchdog,
)

BY_NAME: dict[str, Tuner] = {tuner.NAME: tuner for tuner in ALL}
