"""The verbs `hosts`, `host`, `nics`, `irqs`."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hwdb import store
from hwdb.cli.failure import Exit, Failure
from hwdb.cli.output import Column, Format, columns, document, emit
from hwdb.db import reading
from hwdb.store import HostEntry
from wire.report import labels_text

if TYPE_CHECKING:
    from hwdb.db import Conn
    from hwdb.facts import NicLine
    from tuners.select import Condition

AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def age(at_ms: int) -> str:
    """How long ago: `5 min`, `3 d`; "" for never."""
    if not at_ms:
        return ""
    seconds = max(0, time.time() - at_ms / 1000)
    return next((f"{seconds / unit:.0f} {name}" for unit, name in AGES if seconds >= unit), "now")


HOSTS = columns(
    HostEntry,
    [
        ("host", lambda host: host.hostname),
        ("state", lambda host: "online" if host.online else "offline"),
        ("seen", lambda host: age(host.last_ms)),
        ("hardware", lambda host: f"{host.vendor} {host.product}".strip()),
        ("threads", lambda host: host.threads),
        ("GiB", lambda host: round(host.memory_kb / 1024**2)),
        ("NICs", lambda host: host.nics),
        ("findings", lambda host: f"{host.findings} {host.severity}" if host.findings else ""),
        ("policy", lambda host: host.status),
    ],
    [
        ("CPU", lambda host: host.cpu),
        ("mode", lambda host: "observe" if host.observe else "enforce"),
        ("site", lambda host: host.site),
        ("labels", lambda host: labels_text(host.labels)),
        ("agent", lambda host: host.agent_version),
        ("host id", lambda host: host.host_id),
    ],
)


def hosts(url: str, where: Sequence[str], form: Format) -> None:
    """All hosts, or those for which every condition holds."""
    conditions = parsed(where, of_nic=False)
    with reading(url) as conn:
        found = store.hosts(conn)
        if conditions:
            found = _fitting(conn, conditions, found)
    emit(found, HOSTS, form, empty="no host fits the conditions" if where else "no host has reported yet")


def _fitting(conn: "Conn", conditions: "Sequence[Condition]", known: list[HostEntry]) -> list[HostEntry]:
    from hwdb.facts import read_hosts  # noqa: PLC0415
    from tuners.select import host_fits  # noqa: PLC0415

    fit = {host.host_id for host in read_hosts(conn) if host_fits(conditions, host.labels, host.facts)}
    return [host for host in known if host.host_id in fit]


def parsed(where: Sequence[str], *, of_nic: bool) -> "list[Condition]":
    """The conditions; raises Failure with the column of what is wrong."""
    if not where:
        return []
    from tuners.select import parse_condition  # noqa: PLC0415

    return each_parsed(where, lambda text: parse_condition(text, of_nic))


def each_parsed(where: Sequence[str], parse: "Callable[[str], Condition]") -> "list[Condition]":
    """The conditions by a parser of theirs; raises Failure with the column of what is wrong."""
    from tuners.select import SelectError  # noqa: PLC0415

    conditions: list[Condition] = []
    for text in where:
        try:
            conditions.append(parse(text))
        except SelectError as error:
            raise Failure(Exit.BAD_INPUT, f"--where {text!r}, column {error.column}: {error}") from None
    return conditions


def host(url: str, word: str, form: Format) -> None:
    """One host, whole."""
    from hwdb.facts import page  # noqa: PLC0415

    with reading(url) as conn:
        shown = page(conn, store.resolve(conn, word))
    if form in (Format.JSON, Format.YAML):
        document(shown, form)
    elif form is Format.CSV:
        emit([shown.host.entry], HOSTS, form)
    else:
        from hwdb.cli.drawn import draw_host  # noqa: PLC0415 - rich

        draw_host(shown)


def nics(url: str, where: Sequence[str], form: Format) -> None:
    """NICs that fit; the physical ones without a condition."""
    from hwdb.facts import nic_lines  # noqa: PLC0415

    conditions = parsed(where, of_nic=True)
    with reading(url) as conn:
        found = nic_lines(conn, conditions)
    emit(found, nic_columns(), form, empty="no NIC fits the conditions" if where else "no host has reported a NIC yet")


def nic_columns() -> "list[Column[NicLine]]":
    """The table of `nics`; its words are those of the screen."""
    from hwdb import words  # noqa: PLC0415
    from hwdb.facts import NicLine  # noqa: PLC0415

    return columns(
        NicLine,
        [
            ("host", lambda line: line.hostname),
            ("NIC", lambda line: line.nic.ifname),
            ("driver", lambda line: line.nic.driver or line.nic.type),
            ("firmware", lambda line: line.nic.firmware),
            ("link", lambda line: words.link(line.nic)),
            ("queues", lambda line: words.queues(line.nic, line.ethtool)),
            ("interrupts", lambda line: words.interrupts(line.irq)),
            ("NUMA", lambda line: line.nic.numa_node),
        ],
        [
            ("address", lambda line: line.nic.address or line.nic.bus),
            ("MAC", lambda line: line.nic.mac),
            ("MTU", lambda line: line.nic.mtu),
            ("rings", lambda line: words.rings(line.ethtool)),
            ("host id", lambda line: line.host_id),
            ("key", lambda line: line.nic.key),
        ],
    )


def irqs(url: str, word: str, form: Format) -> None:
    """The interrupts of a host's NICs."""
    from hwdb.facts import IrqLine, irq_lines  # noqa: PLC0415

    with reading(url) as conn:
        found = irq_lines(conn, store.resolve(conn, word))
    table = columns(
        IrqLine,
        [
            ("NIC", lambda line: line.ifname),
            ("IRQ", lambda line: line.queue.irq),
            ("rx", lambda line: line.queue.rx),
            ("tx", lambda line: line.queue.tx),
            ("allowed", lambda line: line.queue.cpus),
            ("serves", lambda line: line.queue.effective),
            ("node", lambda line: line.queue.node),
            ("name", lambda line: line.queue.name),
        ],
        [
            ("managed", lambda line: line.queue.managed),
            ("control", lambda line: line.queue.control),
            ("mapped by", lambda line: line.source),
        ],
    )
    emit(found, table, form, empty=f"{word} has reported no interrupt of a NIC")
