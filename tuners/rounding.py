"""What drivers make of a number: a value they rounded is not drift, and is not written again."""

from collections.abc import Callable

from tuners import quirks
from wire import discipline
from wire.policy import Value

_PWM_STEP = 8


def power_up(number: int) -> int:
    """The power of two at or above `number` (1 and more)."""
    return 1 << (number - 1).bit_length()


def rounded(way: str, number: int) -> int:
    """`number` (1 and more) by one of the ways of quirks.yaml: "up 8", "down 4", "power up", "power down"."""
    if way == "power up":
        return power_up(number)
    if way == "power down":
        return 1 << (number.bit_length() - 1)
    word, _, step = way.partition(" ")
    return (-(-number // int(step)) if word == "up" else number // int(step)) * int(step)


def ring_stands(driver: str, current: int, wanted: int) -> bool:
    """True when `current` is what the driver makes of `wanted` descriptors."""
    return _stands("rings", driver, current, wanted)


def coalesce_stands(current: int, wanted: int, driver: str = "") -> bool:
    """True when `current` is what a driver makes of `wanted` µs or frames; 0 (off) is only ever 0."""
    return _stands("coalesce", driver, current, wanted)


def _stands(knob: str, driver: str, current: int, wanted: int) -> bool:
    if current == wanted or wanted <= 0 or current <= 0:
        return current == wanted
    return any(current == rounded(way, wanted) for way in quirks.roundings(knob, driver))


def stands(message: str, driver: str | None, now: Value, wanted: Value) -> bool:
    """True when `now` is what a driver makes of `wanted` in that request; without a driver only the very same is."""
    if now == wanted or driver is None:
        return now == wanted
    if isinstance(now, str) and isinstance(wanted, str):
        return message in TEXTS and TEXTS[message](now, wanted)
    if not isinstance(now, int) or not isinstance(wanted, int):
        return False
    if message == "fan":  # a register of fewer steps than 255
        return min(now, wanted) >= 0 and abs(now - wanted) <= _PWM_STEP
    return message in ("rings", "coalesce") and _stands(message, driver, now, wanted)


def _fec_stands(now: str, wanted: str) -> bool:
    return wanted == "auto" and now.partition(",")[0] == "auto"  # the driver adds what it chooses from


def filter_stands(now: str, wanted: str) -> bool:
    """True when a NIC that stamps what `now` says stamps what `wanted` says: drivers stamp more than was asked for."""
    if wanted in (now, "none"):
        return now == wanted
    return now in ("all", "some") or (now.endswith("-event") and wanted.startswith(now.removesuffix("event")))


# Texts of which a request names a part, and the kernel says all.
TEXTS: dict[str, Callable[[str, str], bool]] = {
    "qdisc": discipline.stands,
    "fec": _fec_stands,
    "hwtstamp": filter_stands,
}
