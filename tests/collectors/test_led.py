"""Lights of /sys/class/leds."""

from pathlib import Path

import msgspec

from collectors import fans, hwmon, led, watchdog
from collectors.run import run
from machine import kept
from machine.kept import Curve, Feed, Kept
from machine.live import Live
from tests.collectors.conftest import write
from wire.facts import Fan, Hwmon, Led, Watchdog
from wire.report import Status


def test_lights_and_what_drives_them(tmp_path: Path) -> None:
    device = "sys/devices/pci0000:00/0000:00:1d.0/leds"
    write(
        tmp_path,
        {
            f"{device}/en0::lan/brightness": "1",
            f"{device}/en0::lan/max_brightness": "1",
            f"{device}/en0::lan/trigger": "none kbd-scrolllock timer [netdev]",
            f"{device}/locate/brightness": "12",
            f"{device}/locate/max_brightness": "255",
            f"{device}/locate/trigger": "[none] timer",
            f"{device}/odd/brightness": "x",
        },
    )
    (tmp_path / "sys/class/leds").mkdir(parents=True)
    for name in ("en0::lan", "locate", "odd"):
        (tmp_path / "sys/class/leds" / name).symlink_to(f"/{device}/{name}")
        (tmp_path / device / name / "device").symlink_to("/sys/devices/pci0000:00/0000:00:1d.0")
    assert run(led, Live(str(tmp_path)), 0).facts == [
        Led(
            key="en0::lan",
            device="0000:00:1d.0",
            max_brightness=1,
            trigger="netdev",
            triggers=["none", "kbd-scrolllock", "timer", "netdev"],
        ),
        Led(
            key="locate",
            device="0000:00:1d.0",
            brightness=12,
            max_brightness=255,
            trigger="none",
            triggers=["none", "timer"],
        ),
        Led(key="odd", device="0000:00:1d.0"),
    ]
    assert run(led, Live(str(tmp_path / "none")), 0).status is Status.ABSENT


def test_what_is_kept_is_told_while_its_keeper_lives(tmp_path: Path) -> None:
    folder = "sys/devices/pci0000:00/0000:00:1f.4/i2c-9/9-002e/hwmon/hwmon3"
    names = {"name": "adt7475", "pwm1": "200", "pwm1_enable": "1", "fan1_input": "900", "temp1_input": "41000"}
    dog = {"identity": "i6300ESB timer", "state": "active", "timeout": "60"}
    write(tmp_path, {f"{folder}/{name}": text for name, text in names.items()})
    write(tmp_path, {f"sys/class/watchdog/watchdog0/{name}": text for name, text in dog.items()})
    (tmp_path / "sys/class/hwmon").mkdir(parents=True)
    (tmp_path / "sys/class/hwmon/hwmon3").symlink_to(f"/{folder}")
    machine = Live(str(tmp_path))

    def told() -> tuple[Fan, Watchdog]:
        (fan,) = [fact for fact in run(fans, machine, 0).facts if isinstance(fact, Fan)]
        (timer,) = [fact for fact in run(watchdog, machine, 0).facts if isinstance(fact, Watchdog)]
        return fan, timer

    sensor = [fact.file for fact in run(hwmon, machine, 0).facts if isinstance(fact, Hwmon)]
    assert sensor == [f"/{folder}/temp1_input"]
    fan, timer = told()
    assert (fan.output, fan.enable, fan.duty, fan.curve, timer.fed) == (f"/{folder}/pwm1", "1", 200, "", False)

    whole = Kept(fans={f"/{folder}/pwm1": Curve("40:100", sensor[0])}, watchdogs={"watchdog0": Feed(60)})
    run_folder = str(kept.RUN).lstrip("/")
    write(tmp_path, {f"{run_folder}/kept.json": msgspec.json.encode(whole), f"{run_folder}/keeper": "77 4242"})
    assert told() == (fan, timer), "a keeper that is gone keeps nothing"
    write(tmp_path, {"proc/77/stat": "77 (python) S" + " 1" * 18 + " 4242 0 0"})
    fan, timer = told()
    assert (fan.curve, fan.sensors, fan.duty, timer.fed) == ("40:100", sensor[0], None, True)
    write(tmp_path, {"proc/77/stat": "77 (other) S" + " 1" * 18 + " 9999 0 0"})
    assert told()[0].curve == ""
