"""The facts of one host, indexed for planning; nothing here is changed in place."""

from collections.abc import Iterable
from typing import TypeVar, cast

from wire.facts import (
    Bond,
    Clock,
    Cmdline,
    Cpu,
    Device,
    Dmi,
    Ethtool,
    Fact,
    Firmware,
    Hwmon,
    Irq,
    Lldp,
    Memory,
    Nic,
    Numa,
    Pci,
    Pcie,
    Queues,
    Softnet,
    Watchdog,
)

F = TypeVar("F", bound=Fact)
Kinds = dict[type, dict[str, Fact]]


class HostFacts:
    """Facts by kind and key (`ethtool`, `irq`, `queues` have the NIC's); None or empty where a collector is absent."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        kinds: Kinds = {}
        for fact in facts:
            kinds.setdefault(type(fact), {})[fact.key] = fact
        self._index({kind: dict(sorted(found.items())) for kind, found in kinds.items()})

    def _index(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self.nics = self._kind(Nic)
        self.ethtool = self._kind(Ethtool)
        self.irq = self._kind(Irq)
        self.queues = self._kind(Queues)
        self.pci = self._kind(Pci)
        self.pcie = self._kind(Pcie)
        self.firmware = self._kind(Firmware)
        self.watchdogs = self._kind(Watchdog)
        self.bonds = self._kind(Bond)
        self.lldp = self._kind(Lldp)
        self.hwmon = self._kind(Hwmon)
        self.numa = sorted(self._kind(Numa).values(), key=lambda node: node.node)
        self.cpu = self._only(Cpu)
        self.softnet = self._only(Softnet)
        self.memory = self._only(Memory)
        self.dmi = self._only(Dmi)
        self.cmdline = self._only(Cmdline)
        self.clock = self._only(Clock)
        self.device = self._only(Device)

    def of(self, kind: type[F]) -> list[F]:
        """The facts of one kind, by key."""
        return list(self._kind(kind).values())

    def _kind(self, kind: type[F]) -> dict[str, F]:
        return cast("dict[str, F]", self._kinds.get(kind, {}))

    def _only(self, kind: type[F]) -> F | None:
        return next(iter(self._kind(kind).values()), None)

    def all(self) -> list[Fact]:
        """Every fact, by kind and key."""
        kinds = sorted(self._kinds, key=lambda kind: kind.__name__)
        return [fact for kind in kinds for fact in self._kinds[kind].values()]

    def replace(self, facts: Iterable[Fact], drop: Iterable[Fact] = ()) -> "HostFacts":
        """A view with `facts` in the place of those of the same kind and key, and without those of `drop`."""
        kinds = dict(self._kinds)  # what is not touched is shared: a plan makes a view per change
        for fact in drop:
            kinds[type(fact)] = {key: each for key, each in kinds.get(type(fact), {}).items() if key != fact.key}
        for fact in facts:
            old = kinds.get(type(fact), {})
            kept = {**old, fact.key: fact}
            kinds[type(fact)] = kept if fact.key in old else dict(sorted(kept.items()))
        made = HostFacts.__new__(HostFacts)  # nothing to sort
        made._index(kinds)
        return made
