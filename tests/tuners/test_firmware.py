"""firmware: only what is named and checked, on stable power, with a way back; what waits for a reboot is said."""

import pytest

from tuners.hostfacts import HostFacts
from tuners.planner import plan, project
from wire.facts import Bmc, Fact, Firmware, Nic, PowerMeter, Psu
from wire.policy import OutcomeStatus, Plan, Request, Setting, Value

ADDRESS = "0000:3b:00.0"
NEW = {"version": "2.0", "file": "/srv/new.bin", "sha256": "a" * 64}
BACK = {"former_version": "1.0", "former": "/srv/old.bin", "former_sha256": "b" * 64}
GOOD = Psu(key="PSU1", label="PSU1", present=True, plugged=True)


def planned(running: str, stored: str, power: list[Fact], **values: Value) -> Plan:
    nic = Nic(key="nic", ifname="eth0", ifindex=2, type="physical", address=ADDRESS)
    part = Firmware(key="f", type="nic", device=ADDRESS, part="fw", running=running, stored=stored)
    board = Firmware(key="g", type="nic", device=ADDRESS, part="board.id", fixed="K1")
    facts = HostFacts([nic, part, board, *power])
    setting = Setting(knob="firmware", nic="nic", values=values)
    made = plan([setting], facts)
    assert plan([setting], project(facts, made)).changes == []
    return made


def test_a_flash_names_both_files() -> None:
    (change,) = planned("1.0", "", [GOOD], **NEW, **BACK).changes
    assert isinstance(change.op, Request)
    assert (change.op.item, change.op.ifname) == (f"pci/{ADDRESS}#fw", "eth0")
    assert change.op.after == {"version": "2.0", "file": "/srv/new.bin", "sha256": "a" * 64}
    assert change.op.before == {"version": "1.0", "file": "/srv/old.bin", "sha256": "b" * 64}


@pytest.mark.parametrize("missing", sorted(BACK))
def test_without_a_way_back_nothing_is_flashed(missing: str) -> None:
    values = {name: value for name, value in {**NEW, **BACK}.items() if name != missing}
    made = planned("1.0", "", [GOOD], **values)
    assert (made.changes, made.skips[0].status) == ([], OutcomeStatus.UNSUPPORTED)
    assert "without the way back nothing is flashed" in made.skips[0].reason


def test_a_former_file_of_another_version_is_no_way_back() -> None:
    made = planned("1.5", "", [GOOD], **NEW, **BACK)
    assert made.changes == []
    assert made.skips[0].reason.startswith("it has 1.5: ")


def test_what_is_stored_and_does_not_run_needs_a_reboot() -> None:
    made = planned("1.0", "2.0", [GOOD], **NEW, **BACK)
    assert (made.changes, made.skips[0].status) == ([], OutcomeStatus.APPLIED)
    assert made.skips[0].reason == "2.0 is stored, and needs a reboot: 1.0 runs until then"


@pytest.mark.parametrize(
    ("power", "reason"),
    [
        ([], "neither a power supply nor a BMC says that power is stable"),
        ([GOOD, Psu(key="PSU2", plugged=False)], "power supply PSU2 has no mains"),
        ([GOOD, Psu(key="PSU2", alarms=["in1_lcrit_alarm"])], "power supply PSU2 raises in1_lcrit_alarm"),
        ([GOOD, Psu(key="PSU2", status="critical")], "power supply PSU2 is critical"),
        ([GOOD, PowerMeter(key="m", chip="c", channel="power1", alarm=True)], "power meter m is past its limit"),
        ([Bmc(power="on", faults=["power overload"])], "the BMC says: power overload"),
    ],
)
def test_power_has_to_be_stable(power: list[Fact], reason: str) -> None:
    made = planned("1.0", "", power, **NEW, **BACK)
    assert (made.changes, made.skips[0].status) == ([], OutcomeStatus.REFUSED)
    assert made.skips[0].reason.startswith(reason)


def test_a_bmc_or_the_policy_may_say_that_power_is_stable() -> None:
    assert len(planned("1.0", "", [Bmc(power="on")], **NEW, **BACK).changes) == 1
    assert len(planned("1.0", "", [], **NEW, **BACK, unknown_power=True).changes) == 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"version": "2.0"}, "file, sha256 are needed"),
        ({**NEW, "part": "fw.undi"}, "it tells no version of fw.undi"),
        ({**NEW, "file": "new.bin"}, "file must be an absolute path"),
        ({**NEW, "sha256": "12"}, "sha256 must be 64 hexadecimal digits"),
    ],
)
def test_what_a_policy_has_to_say(values: dict[str, Value], reason: str) -> None:
    made = planned("1.0", "", [GOOD], **values)
    assert (made.changes, [one.reason for one in made.skips]) == ([], [reason])
