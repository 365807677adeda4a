"""Sensor and fan chips of a guest, as hwmon shows them."""

import pytest

from hardware_lab import chips
from hardware_lab.chips import ADT7475, DPS800, JC42, LM75, MAX6639, Chip
from hardware_lab.failure import LabError
from hardware_lab.guest import Guest, GuestError
from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]

# hwmon counts in thousandths, power in millionths, fans and alarms in ones.
UNITS = {"temp": 1000, "in": 1000, "curr": 1000, "power": 1_000_000, "fan": 1}


def shown(guest: Guest, folder: str, attribute: str) -> int:
    return int(guest.read(f"{folder}/{attribute}"))


def wait_shown(guest: Guest, folder: str, attribute: str, value: float, within: float = 0) -> None:
    """Drivers keep what they read for a second or two."""
    wait_for(
        lambda: abs(shown(guest, folder, attribute) - value) <= within,
        f"{folder}/{attribute} {shown(guest, folder, attribute)} to be {value}",
    )


def unit(name: str) -> int:
    return UNITS[name.rstrip("0123456789")]


def test_chips_show_what_they_hold_and_take_pwm(server: Bench) -> None:
    guest = server.guest
    chips.load(guest)
    folders: dict[int, str] = {chip.address: chips.folder(guest, chip) for chip in chips.CHIPS}
    for chip in chips.CHIPS:
        for name, value in chip.start.items():
            assert shown(guest, folders[chip.address], f"{name}_input") == pytest.approx(value * unit(name), rel=0.002)

    values: tuple[tuple[Chip, str, float, float], ...] = (
        (LM75, "temp1", -12.5, 0),
        (JC42, "temp1", 97.25, 0),
        (MAX6639, "temp2", 88.375, 0),
        (MAX6639, "fan1", 0, 0),
        (ADT7475, "temp3", -7, 0),
        (ADT7475, "fan4", 1200, 1),
        (DPS800, "in1", 0, 0),
        (DPS800, "power2", 781, 0),
    )
    for chip, name, value, within in values:
        chips.set_value(guest, chip, name, value)
        wait_shown(guest, folders[chip.address], f"{name}_input", value * unit(name), within)

    for value, held in ((64, 30), (128, 60), (255, 120)):
        guest.write(f"{folders[MAX6639.address]}/pwm2", str(value))
        assert chips.pwm(guest, MAX6639, "pwm2") == held
    guest.write(f"{folders[ADT7475.address]}/pwm1_enable", "1")
    guest.write(f"{folders[ADT7475.address]}/pwm1", "200")
    assert chips.pwm(guest, ADT7475, "pwm1") == 200


def test_chips_raise_alarms_and_go(server: Bench) -> None:
    guest = server.guest
    chips.load(guest)
    chips.set_value(guest, DPS800, "temp1", 90)
    for chip, name in (
        (JC42, "temp1_crit_alarm"),
        (MAX6639, "temp1_emergency_alarm"),
        (MAX6639, "fan2_fault"),
        (ADT7475, "temp2_alarm"),
        (ADT7475, "fan3_alarm"),
        (DPS800, "in1_lcrit_alarm"),
        (DPS800, "temp1_crit_alarm"),
    ):
        folder = chips.folder(guest, chip)
        assert shown(guest, folder, name) == 0
        chips.set_alarm(guest, chip, name)
        wait_shown(guest, folder, name, 1)
        chips.set_alarm(guest, chip, name, on=False)
        wait_shown(guest, folder, name, 0)
    assert shown(guest, chips.folder(guest, JC42), "temp1_input") == 38000, "an alarm leaves the temperature alone"

    gone = chips.folder(guest, LM75)
    chips.unplug(guest, LM75)
    assert guest.attempt(f"test -e {gone}").returncode
    with pytest.raises(GuestError):
        chips.folder(guest, LM75)
    chips.plug(guest, LM75)
    assert shown(guest, chips.folder(guest, LM75), "temp1_input") == 34500
    for wrong in (
        lambda: chips.set_value(guest, LM75, "fan1", 1),
        lambda: chips.set_value(guest, LM75, "temp1", 200),
        lambda: chips.set_alarm(guest, LM75, "temp1_alarm"),
        lambda: chips.pwm(guest, JC42, "pwm1"),
    ):
        with pytest.raises(LabError, match=r"has no|does not fit"):
            wrong()
