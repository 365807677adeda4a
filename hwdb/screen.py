"""One host on one screen: what it is, its parts, its NICs, what is wrong. Drawn by `rackhand up` and `host`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hwdb import ends, parts
from hwdb.cli.output import clean
from hwdb.parts import Values
from hwdb.store_events import FindingEntry
from hwdb.words import interrupts, link, queues, size
from tuners.hostfacts import HostFacts
from wire.facts import Nic

WIDE = 110  # columns from which a NIC's address and MTU are shown too
_MARK = {"critical": ("✗", "red"), "warning": ("!", "yellow"), "info": ("i", "cyan")}


def screen(facts: HostFacts, values: Values, findings: Sequence[FindingEntry], width: int) -> RenderableType:
    """Everything about one host, to be printed by a Console of `width` columns."""
    shown: list[RenderableType] = [_lines([*identity(facts), *_parts(facts, values)]), Text()]
    if facts.dmi or facts.nics:
        shown += [_title("network"), nics(facts, width), Text()]
    if plugged := ends.rows(facts, values):
        shown += [_title("cables"), _indented(_table(ends.HEADERS, plugged)), Text()]
    shown += [_title("findings"), wrong(findings, "nothing is wrong with what was looked at")]
    return Group(*shown)


def _parts(facts: HostFacts, values: Values) -> list[tuple[str, str]]:
    return [(label, clean(text)) for label, text in parts.lines(facts, values)]


def _table(headers: Sequence[str], rows: Sequence[Sequence[Text]]) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False, padding=(0, 2, 0, 0))
    for header in headers:
        drawn.add_column(header, overflow="fold", no_wrap=header in ("NIC", "link", "NUMA", "MTU"))
    for row in rows:
        drawn.add_row(*row)
    return drawn


def headline(name: str, doing: str) -> RenderableType:
    """The first line: which host, and what is being done with it."""
    return Text.assemble((name, "bold"), "  ", (doing, "dim"))


def identity(facts: HostFacts) -> list[tuple[str, str]]:
    """What the machine is: a label and one line each; a line the machine says nothing about is left out."""
    lines = [
        ("host", _host(facts)),
        ("system", _system(facts)),
        ("cpu", _cpu(facts)),
        ("numa", _numa(facts)),
        ("memory", _memory(facts)),
    ]
    return [(label, clean(text)) for label, text in lines if text]


def _host(facts: HostFacts) -> str:
    dmi = facts.dmi
    return _joined(dmi.hostname, dmi.os, f"Linux {dmi.kernel}" if dmi.kernel else "", dmi.arch) if dmi else ""


def _system(facts: HostFacts) -> str:
    dmi = facts.dmi
    if dmi is None:
        return ""
    made = " ".join(filter(None, (dmi.vendor, dmi.product)))
    serial = f"serial {dmi.serial}" if dmi.serial else ""
    bios = " ".join(filter(None, ("BIOS", dmi.bios_vendor, dmi.bios_version, dmi.bios_date)))
    return _joined(made, serial, bios if bios != "BIOS" else "")


def _cpu(facts: HostFacts) -> str:
    cpu = facts.cpu
    if cpu is None:
        return ""
    count = ", ".join(
        _count(number, word)
        for number, word in ((cpu.packages, "package"), (cpu.cores, "core"), (cpu.threads, "thread"))
        if number
    )
    isolated = f"isolated {cpu.isolated}" if cpu.isolated else ""
    governors = f"governor {'/'.join(sorted(cpu.governors))}" if cpu.governors else ""
    return _joined(cpu.model, count, isolated, governors)


def _numa(facts: HostFacts) -> str:
    nodes = [
        " ".join(filter(None, (node.key, f"CPUs {node.cpus}" if node.cpus else "no CPU", size(node.memory_kb))))
        for node in facts.numa
    ]
    return _joined(*nodes)


def _memory(facts: HostFacts) -> str:
    memory = facts.memory
    if memory is None:
        return ""
    pages = [
        f"{count} x {name.rpartition('/')[2]} on {name.partition('/')[0]}" for name, count in _held(memory.hugepages)
    ]
    huge = f"huge pages {', '.join(pages)}" if pages else ""
    thp = f"transparent huge pages {memory.thp}" if memory.thp else ""
    return _joined(size(memory.total_kb), f"swap {size(memory.swap_kb)}" if memory.swap_kb else "", thp, huge)


def _held(hugepages: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(name, count) for name, count in sorted(hugepages.items()) if count]


def nics(facts: HostFacts, width: int) -> RenderableType:
    """A row per physical NIC, and a line that sums up the virtual ones."""
    physical = [nic for nic in facts.nics.values() if nic.type == "physical"]
    virtual = [nic for nic in facts.nics.values() if nic.type != "physical"]
    parts: list[RenderableType] = []
    if physical:
        parts.append(_indented(_nic_table(facts, sorted(physical, key=lambda nic: nic.ifindex), width)))
    else:
        parts.append(Text("  no physical NIC", style="dim"))
    if virtual:
        parts.append(Text(f"  virtual: {virtual_line(virtual)}", style="dim"))
    return Group(*parts)


def virtual_line(virtual: Iterable[Nic]) -> str:
    """`4 veth, 1 bridge (br0), loopback`: counts per type, with the names where there are few."""
    kinds: Counter[str] = Counter(nic.type or "other" for nic in virtual)
    names: dict[str, list[str]] = {}
    for nic in virtual:
        names.setdefault(nic.type or "other", []).append(clean(nic.ifname))
    return ", ".join(
        kind if kind == "loopback" else f"{count} {kind}" + (f" ({', '.join(names[kind])})" if count < 3 else "")
        for kind, count in sorted(kinds.items())
    )


def _nic_table(facts: HostFacts, physical: Sequence[Nic], width: int) -> Table:
    wide = width >= WIDE
    headers = [
        "NIC",
        "driver",
        "firmware",
        "link",
        "queues",
        "interrupts",
        "NUMA",
        *(["address", "MTU"] if wide else []),
    ]
    rows: list[list[Text]] = []
    for nic in physical:
        row = [nic.ifname, nic.driver or "-", nic.firmware or "-", link(nic), queues(nic, facts.ethtool.get(nic.key))]
        row += [interrupts(facts.irq.get(nic.key)), "-" if nic.numa_node is None else str(nic.numa_node)]
        row += [nic.address or nic.bus or "-", str(nic.mtu)] if wide else []
        rows.append([Text(clean(text)) for text in row])
    return _table(headers, rows)


def wrong(findings: Sequence[FindingEntry], quiet: str) -> RenderableType:
    """A line per finding and, below it, its remedy."""
    if not findings:
        return Text(f"  {quiet}", style="green")
    drawn = Table.grid(padding=(0, 1))
    for _ in range(3):
        drawn.add_column(overflow="fold")
    order = list(_MARK)
    for finding in sorted(findings, key=lambda finding: (order.index(finding.severity), finding.target, finding.rule)):
        mark, style = _MARK[finding.severity]
        drawn.add_row(
            Text(f"  {mark}", style=style), Text(clean(finding.target), style="bold"), Text(clean(finding.text))
        )
        drawn.add_row("", "", Text(f"→ {clean(finding.remedy)}", style="dim"))
    return drawn


def pairs(title: str, lines: Sequence[tuple[str, str]]) -> RenderableType:
    """A titled block of label and text."""
    return Group(_title(title), _lines(lines))


def console(width: int | None = None) -> Console:
    """Where screens go: stdout, colours as the terminal and NO_COLOR say."""
    return Console(highlight=False, markup=False, emoji=False, width=width)


def _lines(lines: Sequence[tuple[str, str]]) -> RenderableType:
    drawn = Table.grid(padding=(0, 2))
    drawn.add_column(style="dim", no_wrap=True)
    drawn.add_column(overflow="fold")
    for label, text in lines:
        drawn.add_row(label, Text(text))
    return _indented(drawn)


def _indented(drawn: RenderableType) -> RenderableType:
    return Padding(drawn, (0, 0, 0, 2), expand=False)


def _title(text: str) -> Text:
    return Text(text, style="bold cyan")


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _joined(*parts: str) -> str:
    return " · ".join(filter(None, parts))
