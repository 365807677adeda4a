"""The table of collectors: a module that is not here does not run."""

from collections.abc import Iterable
from typing import Protocol

from collectors import (
    bmc,
    bond,
    clock,
    cmdline,
    cpu,
    cpufreq,
    dcb,
    dimm,
    dmi,
    edac,
    ethtool,
    fans,
    firmware,
    hwmon,
    irq,
    led,
    lldp,
    load,
    mce,
    memory,
    napi,
    nic,
    nicstats,
    ntuple,
    numa,
    optics,
    owners,
    pci,
    pcie,
    power,
    processes,
    psu,
    qdisc,
    queues,
    rdma,
    resctrl,
    rss,
    slices,
    smart,
    softnet,
    storage,
    sysctl,
    thermal,
    trust,
    virt,
    watchdog,
    xdp,
)
from collectors.about import About
from machine import Machine
from wire.facts import Fact
from wire.report import Event, Sample


class Collector(Protocol):
    """A module that reads one subject."""

    @property
    def NAME(self) -> str:  # noqa: N802 - the module's constant
        """Its word everywhere: file, metric prefix, configuration, README row."""
        ...

    @property
    def EVERY_S(self) -> float:  # noqa: N802 - the module's constant
        """Seconds between runs."""
        ...

    @property
    def DEADLINE_S(self) -> float:  # noqa: N802 - the module's constant
        """Seconds after which a run is hung."""
        ...

    @property
    def ABOUT(self) -> About:  # noqa: N802 - the module's constant
        """Its row in the README, its cost, its needs, its metrics."""
        ...

    def collect(self, machine: Machine) -> Iterable[Fact | Sample | Event]:
        """Read the machine; raises NotPresentError when what it reads is not there, MachineError when it failed."""
        ...


ALL: tuple[Collector, ...] = (
    dmi,
    cpu,
    cmdline,
    clock,
    numa,
    memory,
    dimm,
    edac,
    mce,
    nic,
    bond,
    virt,
    rdma,
    ethtool,
    nicstats,
    optics,
    irq,
    queues,
    qdisc,
    dcb,
    rss,
    ntuple,
    napi,
    softnet,
    sysctl,
    owners,
    lldp,
    pci,
    pcie,
    hwmon,
    thermal,
    fans,
    psu,
    power,
    cpufreq,
    slices,
    processes,
    resctrl,
    storage,
    smart,
    watchdog,
    led,
    trust,
    firmware,
    load,
    bmc,
    xdp,
)
_BY_NAME = {collector.NAME: collector for collector in ALL}


def by_name(name: str) -> Collector:
    """The collector of that name; raises KeyError with one line that lists the names there are."""
    if name not in _BY_NAME:
        raise KeyError(f"no collector {name!r}; there are: {', '.join(_BY_NAME)}")
    return _BY_NAME[name]
