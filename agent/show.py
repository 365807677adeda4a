"""Plain text for people: what this host is, a plan, what is reported. No colours, no library."""

from collections import Counter
from collections.abc import Iterable, Sequence

from tuners.hostfacts import HostFacts
from tuners.measure import told
from wire.cpulist import format_cpulist
from wire.facts import Irq, Nic
from wire.policy import FileWrite, Finding, Op, Outcome, Plan, Request, Values


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they need to be; the last one is left ragged."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def host(facts: HostFacts, findings: Sequence[Finding]) -> str:
    """System, CPUs, memory, the NICs with a device, and what is wrong."""
    nics = [nic for nic in facts.nics.values() if nic.bus]
    parts = [*_system(facts), "", table(_NIC_HEAD, (_nic(nic, facts) for nic in nics)) if nics else "no physical NIC"]
    wrong = [f"{one.severity}: {one.target}: {one.text}\n    remedy: {one.remedy}" for one in findings]
    return "\n".join([*parts, "", *(wrong or ["nothing found wrong"])])


def _system(facts: HostFacts) -> list[str]:
    lines: list[str] = []
    if facts.dmi:
        dmi = facts.dmi
        made = " ".join(filter(None, (dmi.vendor, dmi.product))) or "unknown system"
        lines += [f"{dmi.hostname}: {made}", f"{dmi.os}, Linux {dmi.kernel} {dmi.arch}"]
    if facts.cpu:
        cpu = facts.cpu
        lines.append(f"CPU: {cpu.model}, {cpu.packages} packages, {cpu.cores} cores, {cpu.threads} threads")
    lines += [f"NUMA node {node.node}: CPUs {node.cpus or 'none'}" for node in facts.numa]
    if facts.memory:
        lines.append(f"memory: {facts.memory.total_kb / 2**20:.1f} GiB")
    return lines


_NIC_HEAD = ("NIC", "DRIVER", "FIRMWARE", "BUS", "ADDRESS", "NODE", "LINK", "QUEUES", "IRQS ON CPUS")


def _nic(nic: Nic, facts: HostFacts) -> list[object]:
    irq = facts.irq.get(nic.key)
    speed = f"{nic.speed_mbps} Mb/s" if nic.speed_mbps else nic.operstate
    return [
        nic.ifname,
        nic.driver,
        nic.firmware or "-",
        nic.bus,
        nic.address or "-",
        "-" if nic.numa_node is None else nic.numa_node,
        speed if nic.carrier else "no carrier",
        f"{nic.rx_queues}/{nic.tx_queues}",
        placed(irq) if irq else "-",
    ]


def placed(irq: Irq) -> str:
    """The CPUs that its queues' interrupts fire on."""
    cpus = sorted({queue.effective or queue.cpus for queue in irq.queues if not queue.control} - {""})
    single = [int(text) for text in cpus if text.isdigit()]
    return format_cpulist(single) if len(single) == len(cpus) else " ".join(cpus)


def plan(made: Plan) -> str:
    """What would change, in order, and what was left out."""
    if not made.changes and not made.skips:
        return "nothing to change"
    rows = [(change.knob, change.target, *_values(change.op), change.blast) for change in made.changes]
    lines = [table(("KNOB", "TARGET", "FROM", "TO", "DANGER"), rows)] if rows else ["nothing to change"]
    return "\n".join([*lines, *(f"left out: {skip.knob} {skip.target}: {skip.reason}" for skip in made.skips)])


def outcomes(results: Iterable[Outcome]) -> str:
    """One line per setting."""
    rows = [(one.knob, one.target or one.nic or "host", one.status, one.reason or _effect(one)) for one in results]
    return table(("KNOB", "TARGET", "OUTCOME", "REASON"), rows) if rows else "no settings"


def _effect(one: Outcome) -> str:
    return f"measured: {told(one.effect)}" if one.effect else ""


def _values(op: Op) -> tuple[str, str]:
    if isinstance(op, Request):
        return _joined(op.before), _joined(op.after)
    if isinstance(op, FileWrite):
        return op.before or '""', op.after or '""'
    return format_cpulist(op.before) or "none", format_cpulist(op.after) or "none"


def _joined(values: Values) -> str:
    if len(values) > 1 and all(name.isdecimal() for name in values):  # threads: how many, not which
        return ", ".join(f"{count} x {value}" for value, count in Counter(map(str, values.values())).items())
    return " ".join(f"{name}={value}" for name, value in values.items())
