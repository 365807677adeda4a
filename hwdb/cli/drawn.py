"""`host` as a screen: the one of `up`, with the host's policy and collectors below."""

from hwdb import screen
from hwdb.cli.hosts import age
from hwdb.cli.output import clean
from hwdb.facts import HostPage
from hwdb.parts import newest
from tuners.hostfacts import HostFacts
from wire.report import labels_text


def draw_host(shown: HostPage) -> None:
    """Print it as wide as the terminal."""
    host, console = shown.host.entry, screen.console()
    state = "online" if host.online else f"offline, seen {age(host.last_ms) or 'never'}"
    console.print(screen.headline(clean(host.hostname), f"{state}, {'observing' if host.observe else 'enforcing'}"))
    console.print()
    console.print(screen.screen(HostFacts(shown.host.facts), newest(shown.samples), shown.findings, console.width))
    console.print()
    lines = [("id", host.host_id), ("labels", clean(labels_text(host.labels))), ("policy", _policy(shown))]
    lines += [
        ("collector", clean(f"{each.collector}: {each.status} {each.reason}"))
        for each in shown.host.collectors
        if each.status not in ("ok", "absent")
    ]
    console.print(screen.pairs("inventory", [(label, text) for label, text in lines if text]))


def _policy(shown: HostPage) -> str:
    if not shown.host.entry.generation:
        return "none"
    reason = f": {clean(shown.reported.reason)}" if shown.reported and shown.reported.reason else ""
    return f"generation {shown.host.entry.generation} {shown.host.entry.status}{reason}"
