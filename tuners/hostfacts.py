"""The facts of one host, indexed for planning; nothing here is changed in place."""

from collections.abc import Iterable
from typing import TypeVar

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


class HostFacts:
    """Facts by kind and key (`ethtool`, `irq`, `queues` have the NIC's); None or empty where a collector is absent."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self._facts = {(type(fact).__name__, fact.key): fact for fact in facts}
        self._kinds: dict[type, list[Fact]] = {}
        for fact in self.all():
            self._kinds.setdefault(type(fact), []).append(fact)
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
        return [fact for fact in self._kinds.get(kind, ()) if isinstance(fact, kind)]

    def _kind(self, kind: type[F]) -> dict[str, F]:
        return {fact.key: fact for fact in self.of(kind)}

    def _only(self, kind: type[F]) -> F | None:
        return next(iter(self._kind(kind).values()), None)

    def all(self) -> list[Fact]:
        """Every fact, by kind and key."""
        return [self._facts[name] for name in sorted(self._facts)]

    def replace(self, facts: Iterable[Fact], drop: Iterable[Fact] = ()) -> "HostFacts":
        """A view with `facts` in the place of those of the same kind and key, and without those of `drop`."""
        kept = dict(self._facts)
        for fact in drop:
            kept.pop((type(fact).__name__, fact.key), None)
        for fact in facts:
            kept[(type(fact).__name__, fact.key)] = fact
        return HostFacts(kept.values())
