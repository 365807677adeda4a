"""Sensors that move: bounded, out of step, and written where the guest reads them."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hardware_lab import daemon, weather
from hardware_lab.acpi import PAGE, Readings, Values


@given(st.floats(0, 2e9), st.integers(1, 99))
def test_readings_stay_those_of_a_healthy_server(at_s: float, server: int) -> None:
    now, calm = weather.readings(at_s, server), Readings()
    assert calm.cpu_c <= now.cpu_c <= 66
    assert calm.board_c <= now.board_c < 50
    assert calm.power_w <= now.power_w < calm.cap_w
    assert now.critical_c == calm.critical_c


def test_servers_are_out_of_step() -> None:
    assert weather.readings(1000, 1) != weather.readings(1000, 2)
    assert weather.readings(1000, 1) != weather.readings(1030, 1)


def test_the_values_of_every_server_move_until_it_is_stopped(tmp_path: Path) -> None:
    memories = [tmp_path / name / "mem0" for name in ("srv1", "srv2")]
    for memory in memories:
        memory.parent.mkdir()
        with memory.open("wb") as file:
            file.truncate(PAGE + 4096)
        with Values(memory) as values:
            values.fill()
    weather.start(tmp_path)
    try:
        assert daemon.await_(lambda: all(power(memory) != Readings().power_w for memory in memories), 30)
    finally:
        weather.stop(tmp_path)
    assert daemon.find(tmp_path, weather.NAME) is None


def power(memory: Path) -> float:
    with Values(memory) as values:
        return values.get("power_w")
