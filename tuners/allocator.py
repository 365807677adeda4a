"""Which CPU serves which queue, over all NICs of a host at once: even load, whole cores first, few moves."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Unit(NamedTuple):
    """What moves as one: the receive and transmit interrupts of one queue pair."""

    nic: str
    queue: int
    candidates: tuple[int, ...]  # CPUs it may be on, in the order to fill them
    now: int | None  # the one CPU it is on


Cost = tuple[int, int, int]
_NOTHING: Counter[int] = Counter()


class _Load:
    """How much is on each CPU: of one NIC, in all, and on its whole core."""

    def __init__(self, base: Mapping[int, int], core: Mapping[int, str]) -> None:
        self._core = core
        self._own: dict[str, Counter[int]] = {}
        self._cpus: Counter[int] = Counter()
        self._cores: Counter[str] = Counter()
        for cpu, count in base.items():
            self.add("", cpu, count)

    def add(self, nic: str, cpu: int, count: int = 1) -> None:
        self._own.setdefault(nic, Counter())[cpu] += count
        self._cpus[cpu] += count
        self._cores[self._core.get(cpu, "")] += count

    def cost(self, nic: str, cpu: int) -> Cost:
        return self._own.get(nic, _NOTHING)[cpu], self._cpus[cpu], self._cores[self._core.get(cpu, "")]

    def best(self, unit: Unit) -> int:
        """The cheapest candidate; of equals the first in the filling order."""
        own, cpus, cores, core = self._own.get(unit.nic, _NOTHING).get, self._cpus.get, self._cores.get, self._core.get
        return min(unit.candidates, key=lambda cpu: (own(cpu, 0), cpus(cpu, 0), cores(core(cpu, ""), 0)))


def allocate(units: Sequence[Unit], base: Mapping[int, int], core: Mapping[int, str]) -> dict[tuple[str, int], int]:
    """(NIC, queue) -> CPU. `base` is load that does not move, `core` names each CPU's physical core.

    A unit on a candidate stays unless a move makes the load strictly more even: of its NIC per CPU, then of all NICs
    per CPU, then per core. Every move lowers (sums of squares of the three), so it ends, and its own result moves
    nothing.
    """
    load = _Load(base, core)
    placed: dict[tuple[str, int], int] = {}
    for unit in units:
        if unit.now in unit.candidates:
            placed[unit.nic, unit.queue] = unit.now
            load.add(unit.nic, unit.now)
    for unit in units:
        if (unit.nic, unit.queue) not in placed:
            placed[unit.nic, unit.queue] = cpu = load.best(unit)
            load.add(unit.nic, cpu)
    while _improve(units, placed, load):
        pass
    return placed


def _improve(units: Sequence[Unit], placed: dict[tuple[str, int], int], load: _Load) -> bool:
    moved = False
    for unit in units:
        old = placed[unit.nic, unit.queue]
        load.add(unit.nic, old, -1)
        new = load.best(unit)
        if load.cost(unit.nic, new) < load.cost(unit.nic, old):
            placed[unit.nic, unit.queue], moved = new, True
        else:
            new = old
        load.add(unit.nic, new)
    return moved
