"""How fast fans turn: a curve over the hottest of some temperatures, driven by a process that fails to full speed."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from msgspec import structs

from tuners.about import About, Scope, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible
from wire.curve import CurveError, parse_curve
from wire.facts import Fan, Hwmon
from wire.policy import Change, Request, Setting, Values

NAME = "fan"
BY_CURVE = -1


def _no_curve(text: str) -> str:
    try:
        parse_curve(text)
    except CurveError as error:
        return str(error)
    return ""


def _no_pattern(text: str) -> str:
    return "" if text.strip() and len(text) <= 200 else "must be a pattern such as */adt7475/*"


ABOUT = About(
    stage=Stage.PLACE,
    what="fans along a curve of temperatures",
    interface="pwmN, pwmN_enable of hwmon, a keeper process",
    unit="°C, % of full speed",
    undo="who set the output before, and its duty",
    scope=Scope.HOST,
    facts=("fans", "hwmon"),
    quirks="full speed when the agent, the keeper or a sensor is lost; chips round the duty",
)
VALUES: dict[str, Spec] = {
    "fans": Spec(str, "a pattern of fans' keys: */adt7475/*", check=_no_pattern),
    "sensors": Spec(str, "a pattern of temperatures' keys: */coretemp/*", check=_no_pattern),
    "curve": Spec(str, "points of °C:%, such as 40:30 60:60 80:100", check=_no_curve),
}


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One request per PWM output that does not follow this curve."""
    for setting in settings:
        missing = [name for name in VALUES if name not in setting.values]
        fans = _fans(str(setting.values.get("fans", "")), facts)
        sensors = _sensors(str(setting.values.get("sensors", "")), facts)
        if missing:
            yield impossible(setting, "host", f"{', '.join(missing)} is not set")
        elif not fans:
            yield impossible(setting, "host", "no fan with a PWM output has such a key")
        elif not sensors:
            yield impossible(setting, "host", "no temperature has such a key")
        else:
            yield from _changes(setting, fans, " ".join(sensors))


def _fans(pattern: str, facts: HostFacts) -> list[Fan]:
    """Fans of that pattern, each output once."""
    found = [fan for fan in facts.of(Fan) if fan.output and fnmatchcase(fan.key, pattern)]
    return list({fan.output: fan for fan in reversed(found)}.values())[::-1]


def _sensors(pattern: str, facts: HostFacts) -> list[str]:
    return [one.file for one in facts.of(Hwmon) if one.file and fnmatchcase(one.key, pattern)]


def _changes(setting: Setting, fans: Sequence[Fan], sensors: str) -> Iterable[Change]:
    curve = " ".join(str(setting.values["curve"]).split())
    for fan in fans:
        if (fan.curve, fan.sensors) != (curve, sensors):
            after: Values = {
                "curve": curve,
                "sensors": sensors,
                "enable": "1" if fan.enable else "",
                "duty": BY_CURVE,
            }
            yield Change(
                knob=NAME,
                target=fan.key,
                op=Request(message=NAME, before=_now(fan), after=after, item=fan.output),
                policy=setting.policy,
                reason=f"the hottest of {len(sensors.split())} temperatures",
            )


def _now(fan: Fan) -> Values:
    duty = BY_CURVE if fan.duty is None else fan.duty
    return {"curve": fan.curve, "sensors": fan.sensors, "enable": fan.enable, "duty": duty}


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The fan under its curve."""
    op = change.op
    assert isinstance(op, Request)  # noqa: S101 - the only op of this knob
    text = {name: str(op.after[name]) for name in ("curve", "sensors", "enable")}
    fans = [fan for fan in facts.of(Fan) if fan.output == op.item]
    return facts.replace([structs.replace(fan, duty=None, pwm="manual", **text) for fan in fans])
