"""How busy the host is: CPU time, memory, load, swap and disk traffic, through psutil."""

from collections.abc import Iterator
from typing import Any, cast

from collectors.about import About
from machine import Machine, MachineError, NotPresentError
from wire.report import Sample

NAME = "load"
EVERY_S = 10.0
DEADLINE_S = 5.0

# psutil function -> its field -> metric. CPU times are cumulative: a rate needs two reports, never state here.
METRICS: dict[str, dict[str, str]] = {
    "cpu_times": {
        "user": "load.cpu_user_seconds",
        "nice": "load.cpu_nice_seconds",
        "system": "load.cpu_system_seconds",
        "idle": "load.cpu_idle_seconds",
        "iowait": "load.cpu_iowait_seconds",
        "irq": "load.cpu_irq_seconds",
        "softirq": "load.cpu_softirq_seconds",
        "steal": "load.cpu_steal_seconds",
    },
    "cpu_stats": {"ctx_switches": "load.context_switches", "interrupts": "load.interrupts"},
    "virtual_memory": {
        "available": "load.memory_available_bytes",
        "free": "load.memory_free_bytes",
        "used": "load.memory_used_bytes",
        "cached": "load.memory_cached_bytes",
    },
    "swap_memory": {
        "used": "load.swap_used_bytes",
        "sin": "load.swap_in_bytes",
        "sout": "load.swap_out_bytes",
    },
    "disk_io_counters": {
        "read_bytes": "load.disk_read_bytes",
        "write_bytes": "load.disk_write_bytes",
        "read_count": "load.disk_reads",
        "write_count": "load.disk_writes",
        "busy_time": "load.disk_busy_ms",
    },
}
AVERAGES = ("load.average_1min", "load.average_5min", "load.average_15min")


ABOUT = About(
    what="CPU time, memory, swap, load, disk traffic",
    source="psutil",
    metrics={
        **{metric: 0 for metrics in METRICS.values() for metric in metrics.values()},
        **dict.fromkeys(AVERAGES, 0.05),
    },
)


def collect(machine: Machine) -> Iterator[Sample]:
    """Gauges and cumulative counters of the whole host; raises NotPresentError when psutil says nothing at all."""
    samples = list(_samples(machine))
    if not samples:
        raise NotPresentError("psutil says nothing about this machine")
    yield from samples


def _samples(machine: Machine) -> Iterator[Sample]:
    for function, metrics in METRICS.items():
        yield from parse_gauges(_ask(machine, function), metrics)
    averages = cast("list[float]", _ask(machine, "getloadavg") or [])
    yield from (Sample(metric, "", value) for metric, value in zip(AVERAGES, averages, strict=False))


def parse_gauges(answer: Any, metrics: dict[str, str]) -> Iterator[Sample]:
    """The samples of one psutil answer; fields that this kernel does not count are left out."""
    if not isinstance(answer, dict):
        return
    fields = cast("dict[str, Any]", answer)
    for field, metric in metrics.items():
        value = fields.get(field)
        if isinstance(value, int | float):
            yield Sample(metric, "", float(value))


def _ask(machine: Machine, function: str) -> Any:
    try:
        return machine.psutil(function)
    except MachineError:
        return None
