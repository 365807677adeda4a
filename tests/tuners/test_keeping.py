"""Fans, lights and watchdogs: what is asked of them, and what is refused with its reason."""

import pytest

from tuners import planner
from tuners.hostfacts import HostFacts
from wire.facts import Claim, Fact, Fan, Hwmon, Led, Owner, Watchdog
from wire.policy import FileWrite, OutcomeStatus, Plan, Request, Setting, Values, inverse

FOLDER = "/sys/devices/i2c-9/9-002e/hwmon/hwmon3"
CURVE = "40:30 60:60 80:100"
FAN: Values = {"fans": "*/adt7475/*", "sensors": "*/temp1", "curve": CURVE}
FACTS: list[Fact] = [
    Fan(key="i2c/adt7475/fan1", output=f"{FOLDER}/pwm1", enable="2", pwm="automatic"),
    Fan(key="i2c/adt7475/fan2", output=f"{FOLDER}/pwm2", enable="1", duty=128, pwm="manual"),
    Fan(key="i2c/adt7475/fan4"),  # nothing sets its speed
    Fan(key="i2c/other/fan1", output="/sys/devices/x/hwmon/hwmon4/pwm1"),
    Hwmon(key="cpu/coretemp/temp1", chip="coretemp", channel="temp1", file="/sys/devices/c/temp1_input"),
    Hwmon(key="i2c/adt7475/temp2", chip="adt7475", channel="temp2", file=f"{FOLDER}/temp2_input"),
]


def planned(knob: str, values: Values, *facts: Fact) -> Plan:
    return planner.plan([Setting(knob=knob, values=values)], HostFacts(facts))


def test_each_output_gets_the_curve_and_gives_back_what_was_there() -> None:
    made = planned("fan", FAN, *FACTS)
    assert [change.target for change in made.changes] == ["i2c/adt7475/fan1", "i2c/adt7475/fan2"]
    after = {"curve": CURVE, "sensors": "/sys/devices/c/temp1_input", "enable": "1", "duty": -1}
    befores = [{"enable": "2", "duty": -1}, {"enable": "1", "duty": 128}]
    for change, before in zip(made.changes, befores, strict=True):
        op = change.op
        assert isinstance(op, Request)
        assert (op.after, op.before) == (after, {"curve": "", "sensors": "", **before})
    assert made.changes[0].op.item == f"{FOLDER}/pwm1"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"fans": "*", "sensors": "*"}, "curve is not set"),
        ({**FAN, "fans": "*/fan4"}, "no fan with a PWM output"),
        ({**FAN, "sensors": "none/*"}, "no temperature has such a key"),
        ({**FAN, "curve": "40:30 60:60"}, "the last point must be at 100"),
        ({**FAN, "fans": " "}, "must be a pattern"),
    ],
)
def test_a_fan_that_cannot_be_driven_safely_is_not(values: Values, why: str) -> None:
    made = planned("fan", values, *FACTS)
    assert made.changes == []
    assert [why in skip.reason for skip in made.skips] == [True]
    assert made.skips[0].status is OutcomeStatus.FAILED


DARK = Led(key="a:red:locate", brightness=0, max_brightness=255, trigger="none", triggers=["none", "timer", "netdev"])
LIT = Led(key="a:red:locate", brightness=9, max_brightness=255, trigger="none", triggers=["none", "timer", "netdev"])
DRIVEN = Led(key="a:red:locate", max_brightness=255, trigger="netdev", triggers=["none", "netdev"])


@pytest.mark.parametrize(
    ("led", "values", "writes"),
    [
        (DARK, {"state": "on"}, [("brightness", "0", "255")]),
        (LIT, {"state": "on"}, [("brightness", "9", "255")]),
        (LIT, {"state": "off"}, [("brightness", "9", "0")]),
        (DARK, {"state": "off"}, []),
        (DRIVEN, {"state": "on"}, [("trigger", "netdev", "none"), ("brightness", "0", "255")]),
        (DRIVEN, {"state": "off"}, [("trigger", "netdev", "none")]),
        (LIT, {"state": "blink"}, [("brightness", "9", "0"), ("trigger", "none", "timer")]),
        (DARK, {"trigger": "netdev"}, [("trigger", "none", "netdev")]),
        (DRIVEN, {"trigger": "netdev"}, []),
        (DRIVEN, {"trigger": "none"}, [("trigger", "netdev", "none")]),
    ],
)
def test_lights(led: Led, values: Values, writes: list[tuple[str, str, str]]) -> None:
    made = planned("led", {"leds": "*:locate", **values}, led)
    ops = [change.op for change in made.changes if isinstance(change.op, FileWrite)]
    assert ops == [FileWrite(f"/sys/class/leds/a:red:locate/{name}", old, new) for name, old, new in writes]
    after = planner.project(HostFacts([led]), made)
    assert planner.plan([Setting(knob="led", values={"leds": "*:locate", **values})], after).changes == []
    assert [inverse(inverse(op)) for op in ops] == ops


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"leds": "*", "state": "blink"}, "it has no trigger timer"),
        ({"leds": "*", "state": "on", "trigger": "netdev"}, "one of state and trigger"),
        ({"leds": "*"}, "one of state and trigger"),
        ({"leds": "x*", "state": "on"}, "no light is named x*"),
        ({"state": "on"}, "leds is not set"),
    ],
)
def test_lights_that_stay_as_they_are(values: Values, why: str) -> None:
    made = planned("led", values, DRIVEN)
    assert (made.changes, [why in skip.reason for skip in made.skips]) == ([], [True])


def dog(**fields: object) -> Watchdog:
    known = {"name": "watchdog0", "identity": "i6300ESB timer", "running": False, "timeout_s": 30, "nowayout": False}
    return Watchdog(key="0000:00:1d.0", **{**known, **fields})  # type: ignore[arg-type]


def test_a_watchdog_is_armed_and_disarmed_with_its_own_timeout() -> None:
    (change,) = planned("watchdog", {"feed": True, "timeout_s": 60}, dog()).changes
    op = Request("watchdog", {"feed": False, "timeout_s": 30}, {"feed": True, "timeout_s": 60}, item="watchdog0")
    assert change.op == op
    assert planned("watchdog", {"feed": True}, dog(running=True, fed=True)).changes == []
    assert planned("watchdog", {"feed": False}, dog()) == Plan()
    (stop,) = planned("watchdog", {"feed": False}, dog(running=True, fed=True)).changes
    assert isinstance(stop.op, Request)
    assert stop.op.after == {"feed": False, "timeout_s": 30}


SYSTEMD = Owner(
    key="systemd",
    name="systemd",
    claims=[Claim(what="watchdog timeout", value="30s", source="/etc/systemd/system.conf")],
)


@pytest.mark.parametrize(
    ("facts", "values", "why"),
    [
        ([dog(running=True), SYSTEMD], {}, "somebody else feeds it: systemd's RuntimeWatchdogSec=30s in /etc/systemd/"),
        ([dog(running=True)], {}, "somebody else feeds it: who is not known"),
        ([dog(nowayout=True)], {}, "cannot be disarmed again"),
        ([dog(nowayout=None)], {}, "cannot be disarmed again"),
        ([dog(running=None)], {}, "does not tell its state"),
        ([dog(max_timeout_s=40)], {"timeout_s": 41}, "not between its 1 and 40 s"),
        ([dog(min_timeout_s=20)], {"timeout_s": 11}, "not between its 20 and"),
        ([dog()], {"device": "softdog*"}, "no watchdog is named softdog*"),
        ([], {}, "no watchdog is named *"),
    ],
)
def test_watchdogs_that_are_left_alone(facts: list[Fact], values: Values, why: str) -> None:
    made = planned("watchdog", {"feed": True, **values}, *facts)
    assert made.changes == []
    assert [why in skip.reason for skip in made.skips] == [True], made.skips
