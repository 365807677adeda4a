"""Which lights are on: to find a machine, a bay or a port."""

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from msgspec import structs

from tuners.about import About, Scope, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip
from wire.facts import Led
from wire.policy import Change, FileWrite, Setting

NAME = "led"
CLASS = "/sys/class/leds"
BLINK = "timer"
_NOBODY = ("", "none")


def _no_pattern(text: str) -> str:
    return "" if text.strip() and len(text) <= 200 else "must be a pattern such as *:locate"


def _no_trigger(text: str) -> str:
    return "" if text.isascii() and text and not set(text) & set(" \t\n[]/") else "must be one of the light's triggers"


ABOUT = About(
    stage=Stage.PLACE,
    what="lights on, off, blinking, or driven by a trigger",
    interface="/sys/class/leds/X/{trigger,brightness}",
    unit="word",
    undo="what drove it before, and its brightness",
    scope=Scope.HOST,
    facts=("led",),
    quirks="blinking needs the module ledtrig-timer",
)
VALUES: dict[str, Spec] = {
    "leds": Spec(str, "a pattern of their names: *:locate", check=_no_pattern),
    "state": Spec(str, "on, off or blinking", words=("on", "off", "blink")),
    "trigger": Spec(str, "what drives it instead: netdev, heartbeat, disk-activity", check=_no_trigger),
}


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """Writes to the trigger and to the brightness of each light that differs."""
    for setting in settings:
        pattern = str(setting.values.get("leds", ""))
        leds = [led for led in facts.of(Led) if fnmatchcase(led.key, pattern)]
        if not ("state" in setting.values) ^ ("trigger" in setting.values):
            yield impossible(setting, "host", "one of state and trigger must be set, and not both")
        elif not leds:
            yield skip(setting, "host", f"no light is named {pattern}" if pattern else "leds is not set")
        for led in leds if ("state" in setting.values) ^ ("trigger" in setting.values) else ():
            yield from _one(setting, led)


def _one(setting: Setting, led: Led) -> Iterator[Step]:
    state = str(setting.values.get("state", ""))
    driver = str(setting.values.get("trigger", BLINK if state == "blink" else "none"))
    if driver not in (led.trigger, *_NOBODY) and driver not in led.triggers:
        yield skip(setting, led.key, f"it has no trigger {driver}")
    elif driver not in _NOBODY:
        if led.trigger != driver:
            if led.brightness:  # a trigger puts it out; this is what brings it back when it is undone
                yield _write(setting, led, "brightness", str(led.brightness), "0")
            yield _write(setting, led, "trigger", led.trigger, driver)
    else:
        yield from _lit(setting, led, str(led.max_brightness or 1) if state == "on" else "0")


def _lit(setting: Setting, led: Led, wanted: str) -> Iterator[Change]:
    """By hand: without a trigger, at that brightness."""
    now = str(led.brightness or 0)
    if led.trigger not in _NOBODY:
        yield _write(setting, led, "trigger", led.trigger, "none")
        now = "0"
    if now != wanted:
        yield _write(setting, led, "brightness", now, wanted)


def _write(setting: Setting, led: Led, file: str, before: str, after: str) -> Change:
    return Change(
        knob=NAME,
        target=led.key,
        op=FileWrite(f"{CLASS}/{led.key}/{file}", before, after),
        policy=setting.policy,
        reason="as the policy says",
    )


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The light as it is then; one that a trigger lets go of is dark."""
    op = change.op
    assert isinstance(op, FileWrite)  # noqa: S101 - the only op of this knob
    led = next(led for led in facts.of(Led) if led.key == change.target)
    if op.path.endswith("/brightness"):
        return facts.replace([structs.replace(led, brightness=int(op.after))])
    dark = 0 if op.after in _NOBODY else None
    return facts.replace([structs.replace(led, trigger=op.after, brightness=dark)])
