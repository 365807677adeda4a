"""The keeper as a real process on files that stand for a chip: it follows the curve, and a loss ends at full speed."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from machine import MachineError, kept
from machine.keeper import hottest
from machine.kept import Curve, Feed, Kept
from machine.live import Live
from tuners.rounding import stands
from wire.curve import CurveError, duty, parse_curve
from wire.policy import Request, Values

WITHIN_S = 60.0
CURVE = "40:30 60:60 80:100"


def wait_for(done: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WITHIN_S
    while not done():
        assert time.monotonic() < until, what
        time.sleep(0.05)


class Chip:
    """Two outputs and a temperature, an agent's heartbeat, and the requests about them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in {"pwm1": "128", "pwm1_enable": "2", "pwm2": "77", "temp1_input": "50000"}.items():
            self.write(name, text)
        self.well()

    def path(self, name: str) -> str:
        return str(self.root / name)

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def well(self) -> None:
        kept.RUN.mkdir(exist_ok=True)
        kept.beat()

    def silent(self) -> None:
        (kept.RUN / "heartbeat").write_text(str(time.clock_gettime_ns(time.CLOCK_BOOTTIME) - int(31e9)))

    def ask(self, name: str, **after: str | int) -> None:
        values: Values = {"curve": "", "sensors": "", "enable": "", "duty": -1, **after}
        kept.write_fan(Live(), Request(message="fan", before={}, after=values, item=self.path(name)))

    def follow(self, name: str, enable: str) -> None:
        self.ask(name, curve=CURVE, sensors=self.path("temp1_input"), enable=enable)

    def values(self, name: str) -> Values:
        return kept.fan_values(Live(), self.path(name))

    def wait(self, name: str, value: str) -> None:
        wait_for(lambda: self.read(name) == value, f"{name} is {self.read(name)}, not {value}")

    @property
    def keeper(self) -> int:
        return kept.keeper_pid(Live())


@pytest.fixture
def chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chip]:
    monkeypatch.setattr(kept, "RUN", tmp_path / "run")
    monkeypatch.setenv("RACKHAND_RUN", str(tmp_path / "run"))
    made = Chip(tmp_path)
    yield made
    if pid := made.keeper:
        os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def test_a_curve_is_followed_and_what_was_there_comes_back(chip: Chip) -> None:
    before = chip.values("pwm1"), chip.values("pwm2")
    assert before[0] == {"curve": "", "sensors": "", "enable": "2", "duty": -1}, "the chip sets it itself"
    assert before[1] == {"curve": "", "sensors": "", "enable": "", "duty": 77}, "it has no other way"
    chip.follow("pwm1", "1")
    chip.follow("pwm2", "")
    assert chip.values("pwm1") == {"curve": CURVE, "sensors": chip.path("temp1_input"), "enable": "1", "duty": -1}
    for name in ("pwm1", "pwm2"):
        chip.wait(name, str(round(255 * 0.45)))
    chip.write("temp1_input", "70000")
    chip.wait("pwm1", str(round(255 * 0.8)))
    chip.write("temp1_input", "69000")
    chip.write("pwm1_enable", "2")  # somebody meddles
    chip.wait("pwm1_enable", "1")
    chip.wait("pwm1", str(round(255 * 0.8)))  # it slows down only when it is well cooler
    chip.write("temp1_input", "20000")
    chip.wait("pwm1", str(round(255 * 0.3)))

    chip.ask("pwm1", enable="2")
    chip.ask("pwm2", duty=77)
    assert (chip.values("pwm1"), chip.values("pwm2")) == before
    wait_for(lambda: not chip.keeper, "nothing is left to keep: the keeper ends")
    assert (chip.values("pwm1"), chip.values("pwm2")) == before


def test_without_agent_or_sensor_it_is_full_speed_until_they_are_back(chip: Chip) -> None:
    chip.follow("pwm1", "1")
    cool = str(round(255 * 0.45))
    chip.wait("pwm1", cool)
    for lose, find in (
        (chip.silent, chip.well),
        (lambda: kept.beat(kept.STOPPED), chip.well),
        ((chip.root / "temp1_input").unlink, lambda: chip.write("temp1_input", "50000")),
    ):
        lose()
        chip.wait("pwm1", "255")
        find()
        chip.wait("pwm1", cool)


def test_a_keeper_that_dies_leaves_full_speed(chip: Chip) -> None:
    chip.follow("pwm1", "1")
    chip.wait("pwm1", str(round(255 * 0.45)))
    pid = chip.keeper
    os.kill(pid, signal.SIGKILL)
    chip.wait("pwm1", "255")
    os.waitpid(pid, 0)
    assert chip.values("pwm1")["curve"] == "", "without a keeper no curve is followed, which is drift"
    chip.follow("pwm1", "1")
    chip.wait("pwm1", str(round(255 * 0.45)))


def test_nothing_is_begun_without_an_agent(chip: Chip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "STARTED_S", 0.2)
    chip.silent()
    with pytest.raises(MachineError, match="no agent runs here"):
        chip.follow("pwm1", "1")
    with pytest.raises(MachineError, match="no agent runs here"):
        kept.write_watchdog(Live(), Request("watchdog", {}, {"feed": True, "timeout_s": 60}, item="watchdog99"))
    assert (chip.read("pwm1_enable"), chip.keeper) == ("2", 0)
    assert kept.load() == Kept()


def test_what_is_kept_is_read_and_spoilt_files_are_nothing(chip: Chip) -> None:
    chip.well()
    kept.store(Kept(fans={"/x": Curve(CURVE, "/t")}, watchdogs={"watchdog0": Feed(60)}))
    assert kept.load().watchdogs == {"watchdog0": Feed(60)}
    assert kept.read_kept(Live()) == Kept(), "nobody keeps it"
    (kept.RUN / "kept.json").write_text("{")
    assert kept.load() == Kept()
    (kept.RUN / "heartbeat").write_text("noise")
    assert kept.heartbeat() == "silent"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("40:30 60:60", "last point must be at 100"),
        ("", "last point"),
        ("60:60 40:100", "ascend"),
        ("40:60 50:30 60:100", "descend"),
        ("40:30 130:100", "0 to 110"),
        ("-1:30 60:100", "0 to 110"),
        ("hot:100", "points of"),
        ("40", "points of"),
        ("40:nan 60:100", "points of"),
    ],
)
def test_texts_that_are_no_curve(text: str, why: str) -> None:
    with pytest.raises(CurveError, match=why):
        parse_curve(text)


def test_between_and_beyond_the_points() -> None:
    points = parse_curve(CURVE)
    temperatures = (0, 40, 50, 60, 70, 80, 99)
    assert [duty(points, each) for each in temperatures] == [round(2.55 * p) for p in (30, 30, 45, 60, 80, 100, 100)]


def test_the_hottest_counts_and_one_that_is_lost_is_no_temperature(tmp_path: Path) -> None:
    for name, text in (("temp1_input", "41000"), ("temp2_input", "52500"), ("temp3_input", "250000")):
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / f"temp{n}_input") for n in (1, 2, 3)]
    assert hottest(" ".join(files[:2])) == 52.5
    assert hottest(" ".join(files)) is None
    assert hottest("") is None
    (tmp_path / "temp1_fault").write_text("1")
    assert hottest(files[0]) is None
    (tmp_path / "temp1_fault").write_text("0")
    assert hottest(f"{files[0]} /nowhere") is None


def test_a_register_of_fewer_steps_stands() -> None:
    assert stands("fan", "", 61, 63)
    assert not stands("fan", "", 40, 63)
    assert not stands("fan", "", 3, -1)
    assert not stands("fan", None, 61, 63)
