"""Watchdog timers: who they are, whether they run, and whether one of them reset the host."""

import re
from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About
from collectors.chips import parse_device
from machine import Machine, NotPresentError, kept
from wire.facts import Watchdog
from wire.text import clean

NAME = "watchdog"
EVERY_S = 60.0
DEADLINE_S = 5.0

_CLASS = "/sys/class/watchdog"
_NAME = re.compile(r"watchdog\d+")
# WDIOF_ bits of bootstatus (linux/watchdog.h) that say why the last boot came
CAUSES = {
    **{0x01: "overheat", 0x02: "fan", 0x04: "external 1", 0x08: "external 2"},
    **{0x10: "power under", 0x20: "watchdog", 0x40: "power over"},
}

ABOUT = About(
    what="watchdog timers: identity, state, timeouts, governor, whether the last boot was their reset",
    source="`/sys/class/watchdog` (never the device, which would start it)",
)


def collect(machine: Machine) -> Iterator[Watchdog]:
    """One `Watchdog` per timer; raises NotPresentError when there is none."""
    fed = {name for name, feed in kept.read_kept(machine).watchdogs.items() if feed.feed}
    found = [read_watchdog(machine, name) for name in sysfs.names(machine, _CLASS) if _NAME.fullmatch(name)]
    found = [fact for fact in found if fact.identity or fact.running is not None]
    if not found:
        raise NotPresentError(f"no timer in {_CLASS}")
    keys = [fact.key for fact in found]
    for at, fact in enumerate(found):
        fact.fed = fact.name in fed
        if keys.count(fact.key) > 1:
            fact.key = f"{fact.key}#{keys[:at].count(fact.key) + 1}"
        yield fact


def read_watchdog(machine: Machine, name: str) -> Watchdog:
    """One timer; what its driver does not tell is None or empty."""
    folder = f"{_CLASS}/{name}"
    device = sysfs.resolve(machine, f"{folder}/device")
    state = sysfs.text(machine, f"{folder}/state")
    nowayout = sysfs.number(machine, f"{folder}/nowayout")
    identity = clean(sysfs.text(machine, f"{folder}/identity"), 64)
    return Watchdog(
        key=parse_device(device) if device else identity or name,
        name=name,
        identity=identity,
        running={"active": True, "inactive": False}.get(state),
        timeout_s=sysfs.number(machine, f"{folder}/timeout"),
        min_timeout_s=sysfs.number(machine, f"{folder}/min_timeout"),
        max_timeout_s=sysfs.number(machine, f"{folder}/max_timeout") or None,
        pretimeout_s=sysfs.number(machine, f"{folder}/pretimeout"),
        governor=clean(sysfs.text(machine, f"{folder}/pretimeout_governor"), 32),
        nowayout=None if nowayout is None else bool(nowayout),
        boot_causes=parse_causes(sysfs.text(machine, f"{folder}/bootstatus")),
    )


def parse_causes(text: str) -> list[str]:
    """What the bits of bootstatus mean; none for what is no number."""
    bits = sysfs.parse_number(text) or 0
    return [word for bit, word in CAUSES.items() if bits > 0 and bits & bit]
