"""The screen of `rackhand up`: this host, where things are, and what to try next."""

import shutil
import sys
from pathlib import Path

import msgspec

from hwdb import screen
from hwdb.cli.output import Format, clean, columns, document, emit
from hwdb.db import reading
from hwdb.facts import page
from hwdb.parts import newest
from hwdb.place import default_url, shown
from hwdb.store_events import FindingEntry, LatestEntry
from tuners.hostfacts import HostFacts
from wire.facts import Fact


class Front(msgspec.Struct, kw_only=True):
    """What the screen is drawn from."""

    hostname: str
    host_id: str
    facts: list[Fact]
    samples: list[LatestEntry]
    findings: list[FindingEntry]
    places: dict[str, str]
    tries: list[tuple[str, str]]
    enforcing: bool = False
    running: bool = True


class Line(msgspec.Struct):
    """One line of it for a spreadsheet."""

    what: str
    value: str


LINES = columns(Line, [("what", lambda line: line.what), ("value", lambda line: line.value)])


def collect(url: str, host_id: str, places: list[tuple[str, str]], *, enforcing: bool, running: bool) -> Front:
    """Everything about the host from SQL; empty facts where it is not known."""
    with reading(url) as conn:
        found = page(conn, host_id) if host_id else None
    hostname = found.host.entry.hostname if found else ""
    return Front(
        hostname=hostname,
        host_id=host_id,
        facts=found.host.facts if found else [],
        samples=found.samples if found else [],
        findings=found.findings if found else [],
        places=dict(places),
        tries=tries(hostname, url),
        enforcing=enforcing,
        running=running,
    )


def tries(hostname: str, url: str) -> list[tuple[str, str]]:
    """Commands worth trying next, with what they do; first what a shell has to know for them."""
    here = Path(sys.executable).parent
    needed = {
        f"export PATH={here}:$PATH": shutil.which("rackhand") is None,
        f"export RACKHAND_DB={shown(url)}": url != default_url(),
    }
    return [
        *((line, "for the commands below") for line, is_needed in needed.items() if is_needed),
        (f"rackhand host {hostname}" if hostname else "rackhand hosts", "this screen from SQL, at any time"),
        ("rackhand nics --where 'rx_queues>=2'", "NICs of all hosts, by any field"),
        ("rackhand events --follow", "what happens, as it happens"),
        ("rackhand policy lint FILE", "then plan FILE, and apply FILE"),
        ("rackhand-agent doctor", "what the agent can read and write here"),
    ]


def show(front: Front, form: Format) -> None:
    """Print it: drawn for people, whole for programs."""
    if form in (Format.JSON, Format.YAML):
        document(front, form)
        return
    if form is Format.CSV:
        emit(_lines(front), LINES, form)
        return
    console = screen.console()
    console.print()
    if front.facts:
        doing = "policies are applied" if front.enforcing else "observing: nothing on this host is changed"
        console.print(screen.headline(clean(front.hostname), doing))
        console.print()
        console.print(screen.screen(HostFacts(front.facts), newest(front.samples), front.findings, console.width))
        console.print()
    console.print(screen.pairs("where", list(front.places.items())))
    console.print()
    console.print(screen.pairs("try", front.tries))
    if front.running:
        console.print("\n  Ctrl-C stops all of it", style="dim")


def _lines(front: Front) -> list[Line]:
    """Which host, what is wrong with it, and where things are."""
    wrong = [Line(f"finding {one.severity}", f"{one.target}: {one.text}") for one in front.findings]
    places = [Line(name, where) for name, where in front.places.items()]
    return [Line("host", front.hostname), Line("host id", front.host_id), *wrong, *places]
