"""Fans, temperatures, lights, watchdogs and other owners of made-up servers, and values for their knobs."""

from hypothesis import strategies as st

from tuners.hostfacts import HostFacts
from wire.facts import Claim, Fact, Fan, Hwmon, Led, Owner, Watchdog
from wire.policy import Change, FileWrite, Request, Value, Values

CURVES = ("40:30 60:60 80:100", "35:20  70:100", "50:100")
SPEC_VALUES: dict[str, dict[str, st.SearchStrategy[Value]]] = {
    "fan": {
        "fans": st.sampled_from(["*", "dev0/*", "*/fan9"]),
        "sensors": st.sampled_from(["*", "dev0/*/temp1", "none/*"]),
        "curve": st.sampled_from(CURVES),
    },
    "led": {
        "leds": st.sampled_from(["*", "*:locate", "none"]),
        "state": st.sampled_from(["on", "off", "blink"]),
        "trigger": st.sampled_from(["none", "netdev", "timer"]),
    },
    "watchdog": {
        "device": st.sampled_from(["*", "watchdog1", "i6300*", "none"]),
        "feed": st.booleans(),
        "timeout_s": st.integers(10, 3600),
    },
}


@st.composite
def fan(draw: st.DrawFn, number: int) -> Fan:
    """A fan that its chip, a person or a curve drives, or whose output nobody can set."""
    folder = f"/sys/devices/d{number}/hwmon/hwmon{number}"
    made = Fan(key=f"dev{number}/chip/fan1", channel="fan1", output=draw(st.sampled_from(["", f"{folder}/pwm1"])))
    made.enable = draw(st.sampled_from(["", "0", "1", "2", "5"]))
    if draw(st.booleans()) and made.enable in ("", "1"):
        made.curve, made.sensors = "40:30 60:60 80:100", f"{folder}/temp1_input"
    elif made.enable in ("", "0", "1"):
        made.duty = draw(st.integers(0, 255))
    return made


@st.composite
def led(draw: st.DrawFn, name: str) -> Led:
    """A light, dark or lit, or driven by a trigger."""
    trigger = draw(st.sampled_from(["none", "netdev", "timer"]))
    return Led(
        key=name,
        brightness=draw(st.integers(0, 255)) if trigger == "none" else None,
        max_brightness=draw(st.sampled_from([1, 255])),
        trigger=trigger,
        triggers=["none", *draw(st.sets(st.sampled_from(["netdev", "timer"])) | st.just({trigger}))],
    )


@st.composite
def watchdog(draw: st.DrawFn, number: int) -> Watchdog:
    """A watchdog that nobody, somebody or the agent feeds."""
    running = draw(st.sampled_from([True, False, None]))
    return Watchdog(
        key=f"dev{number}",
        name=f"watchdog{number}",
        identity=draw(st.sampled_from(["i6300ESB timer", "Software Watchdog"])),
        running=running,
        fed=bool(running) and draw(st.booleans()),
        timeout_s=draw(st.sampled_from([None, 15, 60])),
        max_timeout_s=draw(st.sampled_from([None, 600])),
        nowayout=draw(st.sampled_from([None, True, False, False])),
    )


@st.composite
def facts(draw: st.DrawFn) -> list[Fact]:
    """What stands in the machine room, and who else sets what."""
    temperatures = [
        Hwmon(
            key=f"dev{n}/chip/temp{n + 1}",
            chip="chip",
            channel=f"temp{n + 1}",
            unit="°C",
            file=f"/sys/d{n}/temp1_input",
        )
        for n in range(draw(st.integers(0, 2)))
    ]
    words = [
        "rings rx",
        "rings *",
        "features gro",
        "irq affinity",
        "queues rps_cpus",
        "coalesce rx_usecs",
        "cpu governor",
    ]
    claims = [Claim(what=draw(st.sampled_from(words)), value=draw(st.sampled_from(["", "1", "on"])))]
    return [
        *temperatures,
        *(draw(fan(n)) for n in range(draw(st.integers(0, 3)))),
        *(draw(led(name)) for name in ("eth0::lan", "pca:red:locate")),
        *(draw(watchdog(n)) for n in range(draw(st.integers(0, 2)))),
        Owner(key="tuned", name="TuneD", running=True, claims=claims),
    ]


def current(facts: HostFacts, change: Change) -> object:
    """What the facts say of the thing a change is about; None when it is none of these knobs'."""
    op = change.op
    if change.knob == "fan" and isinstance(op, Request):
        found = next(one for one in facts.of(Fan) if one.output == op.item)
        duty = -1 if found.duty is None else found.duty
        now: Values = {"curve": found.curve, "sensors": found.sensors, "enable": found.enable, "duty": duty}
        return now
    if change.knob == "watchdog" and isinstance(op, Request):
        dog = next(one for one in facts.of(Watchdog) if one.name == op.item)
        return {"feed": dog.fed, "timeout_s": dog.timeout_s or 0}
    if change.knob == "led" and isinstance(op, FileWrite):
        light = next(one for one in facts.of(Led) if one.key == change.target)
        return light.trigger if op.path.endswith("/trigger") else str(light.brightness or 0)
    return None
