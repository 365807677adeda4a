"""Watchdog timers from sysfs alone."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import watchdog
from collectors.run import run
from collectors.watchdog import parse_causes
from machine.live import Live
from tests.collectors.conftest import write
from wire.facts import Watchdog
from wire.report import Status

CLASS = "sys/class/watchdog"


class Untouching(Live):
    """A machine that does not let its watchdogs be opened."""

    def read_bytes(self, path: str) -> bytes:
        assert not path.startswith("/dev/"), path
        return super().read_bytes(path)


def facts(machine: Live) -> list[Watchdog]:
    return [fact for fact in run(watchdog, machine, 0).facts if isinstance(fact, Watchdog)]


def test_node_exporters_timer_and_the_one_that_says_nothing(exporter: Live) -> None:
    assert facts(exporter) == [
        Watchdog(
            key="Software Watchdog",
            name="watchdog0",
            identity="Software Watchdog",
            running=True,
            timeout_s=60,
            pretimeout_s=120,
            governor="noop",
            nowayout=False,
            boot_causes=["overheat"],
        )
    ]


def test_a_timer_of_a_device_is_named_by_it_and_twins_are_told_apart(tmp_path: Path) -> None:
    device = "sys/devices/pci0000:00/0000:00:1d.0"
    for name in ("watchdog0", "watchdog1"):
        said = {"identity": "i6300ESB timer\n", "state": "inactive\n", "max_timeout": "2046\n", "min_timeout": "1\n"}
        write(tmp_path, {f"{device}/watchdog/{name}/{file}": text for file, text in said.items()})
        (tmp_path / f"{device}/watchdog/{name}/device").symlink_to("../../../0000:00:1d.0")
        (tmp_path / CLASS).mkdir(parents=True, exist_ok=True)
        (tmp_path / CLASS / name).symlink_to(f"../../../{device}/watchdog/{name}")
    write(tmp_path, {f"{CLASS}/watchdog1/bootstatus": "32\n"})
    found = facts(Untouching(str(tmp_path)))
    assert [fact.key for fact in found] == ["0000:00:1d.0#1", "0000:00:1d.0#2"]
    assert [fact.running for fact in found] == [False, False]
    assert [fact.boot_causes for fact in found] == [[], ["watchdog"]]
    assert (found[0].min_timeout_s, found[0].max_timeout_s, found[0].nowayout) == (1, 2046, None)


def test_without_a_timer_it_is_absent(tmp_path: Path) -> None:
    (tmp_path / CLASS / "watchdog0").mkdir(parents=True)
    assert run(watchdog, Live(str(tmp_path)), 0).status is Status.ABSENT


@pytest.mark.parametrize(
    ("text", "causes"),
    [
        ("0", []),
        ("32", ["watchdog"]),
        ("33", ["overheat", "watchdog"]),
        ("80", ["power under", "power over"]),
        ("-1", []),
        ("(null)", []),
        ("", []),
    ],
)
def test_why_the_last_boot_came(text: str, causes: list[str]) -> None:
    assert parse_causes(text) == causes


@given(st.text(max_size=30) | st.integers().map(str))
def test_any_text_is_causes_or_none(text: str) -> None:
    assert set(parse_causes(text)) <= set(watchdog.CAUSES.values())
