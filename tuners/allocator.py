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


Cost = tuple[int, int]


class _Load:
    """Units per CPU and per core."""

    def __init__(self, base: Mapping[int, int], core: Mapping[int, str]) -> None:
        self.core = core
        self.cpus = Counter(base)
        self.cores: Counter[str] = Counter()
        for cpu, count in base.items():
            self.cores[self._core(cpu)] += count

    def _core(self, cpu: int) -> str:
        return self.core.get(cpu, str(cpu))

    def add(self, cpu: int, count: int = 1) -> None:
        self.cpus[cpu] += count
        self.cores[self._core(cpu)] += count

    def cost(self, cpu: int) -> Cost:
        return self.cpus[cpu], self.cores[self._core(cpu)]

    def best(self, unit: Unit) -> int:
        return min(unit.candidates, key=self.cost)  # the first of equals, so the filling order decides


def allocate(units: Sequence[Unit], base: Mapping[int, int], core: Mapping[int, str]) -> dict[tuple[str, int], int]:
    """(NIC, queue) -> CPU. `base` is load that does not move, `core` names each CPU's physical core.

    A unit on a candidate stays unless a move makes the load strictly more even: first per CPU, then per core. Every
    move lowers (sum of squared CPU loads, sum of squared core loads), so it ends, and its own result moves nothing.
    """
    load = _Load(base, core)
    placed: dict[tuple[str, int], int] = {}
    for unit in units:
        if unit.now in unit.candidates:
            placed[unit.nic, unit.queue] = unit.now
            load.add(unit.now)
    for unit in units:
        if (unit.nic, unit.queue) not in placed:
            placed[unit.nic, unit.queue] = cpu = load.best(unit)
            load.add(cpu)
    while _improve(units, placed, load):
        pass
    return placed


def _improve(units: Sequence[Unit], placed: dict[tuple[str, int], int], load: _Load) -> bool:
    moved = False
    for unit in units:
        old = placed[unit.nic, unit.queue]
        load.add(old, -1)
        new = load.best(unit)
        if load.cost(new) < load.cost(old):
            placed[unit.nic, unit.queue], moved = new, True
        else:
            new = old
        load.add(new)
    return moved
