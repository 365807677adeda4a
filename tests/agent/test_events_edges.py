"""Consecutive cycles compared by the table, and announcements of devices as events."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.events.edges import LEVELS, RISES, TURNS, Edges
from agent.events.hotplug import MOST_WAITING, SETTLE_S, SUBSYSTEMS, Hotplug, is_told
from agent.schedule import Ran
from collectors import registry
from collectors.run import Result
from machine.uevents import Uevent
from wire.facts import Bmc, Clock, Fact, Fan, Firmware, Hwmon, Lldp, Pci, PowerMeter, Psu
from wire.report import Event, Sample, Severity, Status

SENSOR = "0000:03:00.0/nvme/temp1"


def ran(name: str, *items: Fact | Sample | Event, status: Status = Status.OK, at_ms: int = 5) -> Ran:
    samples = [item for item in items if isinstance(item, Sample)]
    events = [item for item in items if isinstance(item, Event)]
    facts: list[Any] = [item for item in items if not isinstance(item, Sample | Event)]
    return Ran(name, at_ms, Result(status, facts, samples, events, "", 0.0))


def compared(*cycles: list[Ran]) -> list[Event]:
    """What the last of the cycles tells."""
    edges = Edges()
    return [edges.compare(cycle) for cycle in cycles][-1]


def sensor(*, alarm: bool) -> Ran:
    return ran("hwmon", Hwmon(key=SENSOR, chip="nvme", channel="temp1", label="Composite", alarm=alarm))


def test_an_alarm_that_rises_and_ends() -> None:
    edges = Edges()
    assert edges.compare([sensor(alarm=True)]) == []  # what stood when comparing began is in the facts
    (cleared,) = edges.compare([sensor(alarm=False)])
    (raised,) = edges.compare([sensor(alarm=True)])
    assert (raised.kind, raised.key, raised.severity) == ("sensor.alarm", SENSOR, Severity.WARNING)
    assert (raised.at_ms, raised.text) == (5, f"Composite ({SENSOR}): alarm")
    assert (cleared.kind, cleared.severity) == ("sensor.cleared", Severity.INFO)
    assert edges.compare([sensor(alarm=True)]) == []


def test_a_run_that_failed_is_no_edge() -> None:
    edges = Edges()
    edges.compare([sensor(alarm=True)])
    assert edges.compare([ran("hwmon", status=Status.FAILED)]) == []
    assert edges.compare([ran("hwmon", status=Status.ABSENT)]) == []
    assert edges.compare([sensor(alarm=True)]) == []


def test_a_component_that_comes_with_an_alarm_is_an_edge() -> None:
    (raised,) = compared([ran("hwmon")], [sensor(alarm=True)])
    assert raised.kind == "sensor.alarm"


def test_counters_rise_begin_anew_and_begin_late() -> None:
    def cycle(*counts: tuple[str, float]) -> list[Ran]:
        return [ran("storage", *(Sample("storage.io_errors", key, value) for key, value in counts))]

    edges = Edges()
    assert edges.compare(cycle(("sda", 7))) == []
    assert edges.compare(cycle(("sda", 7))) == []
    (risen,) = edges.compare(cycle(("sda", 9)))
    assert (risen.kind, risen.key, risen.data["count"], risen.data["total"]) == ("storage.io_error", "sda", 2.0, 9)
    (anew,) = edges.compare(cycle(("sda", 1)))
    assert anew.data["count"] == 1
    assert edges.compare(cycle()) == []
    (late, again) = edges.compare(cycle(("sdb", 3), ("sda", 2)))
    assert (late.key, late.data["count"], again.data["count"]) == ("sdb", 3, 1)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=40))
def test_no_error_is_counted_twice_or_left_out(totals: list[int]) -> None:
    edges = Edges()
    told = [
        sum(float(event.data["count"] or 0) for event in edges.compare([ran("bmc", Sample("bmc.sel_entries", "", n))]))
        for n in totals
    ]
    pairs = itertools.pairwise(totals)
    assert told == [0, *(now - was if now >= was else now for was, now in pairs)]


@pytest.mark.parametrize(
    ("before", "after", "kind", "text"),
    [
        (Psu(key="PSU1"), Psu(key="PSU1", alarms=["in1_lcrit_alarm"]), "psu.alarm", "in1_lcrit_alarm"),
        (Psu(key="PSU1", plugged=True), Psu(key="PSU1", plugged=False), "psu.power_lost", "unplugged"),
        (Fan(key="f"), Fan(key="f", alarm=True, status="critical"), "fan.fault", "fan f: alarm, critical"),
        (
            PowerMeter(key="p", chip="c", channel="power1"),
            PowerMeter(key="p", chip="c", channel="power1", alarm=True),
            "sensor.alarm",
            "alarm",
        ),
        (Bmc(), Bmc(faults=["fan"]), "bmc.fault", "chassis: fan"),
        (Bmc(intrusion=False), Bmc(intrusion=True), "bmc.intrusion", "open"),
        (Bmc(sel_overflow=True), Bmc(sel_overflow=False), "sel.room", "full: no more"),
        (Clock(synchronised=True), Clock(synchronised=False), "clock.unsynchronised", "unsynchronised"),
        (Pci(key="a", width=8, max_width=8), Pci(key="a", width=4, max_width=8), "pcie.narrow", "x4 of x8"),
        (Lldp(key="m", system_name="sw1", port_id="1"), Lldp(key="m", system_name="sw1", port_id="2"), "cable.moved",
         "sw1 2, sw1 1 was"),
        (Firmware(key="bios", type="bios", running="1.0"), Firmware(key="bios", type="bios", running="1.1"),
         "firmware.changed", "1.1, 1.0 was"),
    ],
)  # fmt: skip
def test_rows_of_the_tables(before: Fact, after: Fact, kind: str, text: str) -> None:
    (event,) = compared([ran("x", before)], [ran("x", after)])
    assert event.kind == kind
    assert text in event.text


def test_events_of_collectors_are_taken_out_of_their_runs() -> None:
    own = Event(at_ms=3, kind="mce.error", text="")
    one = ran("mce", own)
    assert compared([one]) == [own]
    assert one.result.events == []


def test_no_row_compares_what_a_collector_tells_itself() -> None:
    kinds = [row.raised for row in LEVELS] + [row.cleared for row in LEVELS] + [row.kind for row in TURNS]
    kinds += [rise.kind for rise in RISES.values()]
    own = {"pcie.error", "memory.error", "mce.error", "trust.intrusion", "storage.array", "storage.health"}
    own |= {"thermal.throttled", "thermal.trip", "optics.alarm", "optics.inserted", "optics.removed", "sel.entry"}
    assert not own & set(kinds)
    assert all("." in kind for kind in kinds)
    metrics = {metric for collector in registry.ALL for metric in collector.ABOUT.metrics}
    assert {metric for metric in RISES if metric.partition(".")[0] in {c.NAME for c in registry.ALL}} <= metrics


# -- hot-plug ----------------------------------------------------------------------------------------------------------

SLOT = "/devices/pci0000:00/0000:00:03.0/0000:02:00.0"


def uevent(action: str, subsystem: str, devpath: str, **properties: str) -> Uevent:
    return Uevent(action, devpath, subsystem, {"ACTION": action, "SUBSYSTEM": subsystem, **properties})


def test_devices_are_told_when_they_have_settled_with_the_names_udev_has() -> None:
    hotplug = Hotplug(lambda _: {"ID_MODEL_FROM_DATABASE": "82576 Gigabit", "ID_VENDOR_FROM_DATABASE": "Intel"})
    assert hotplug.take(uevent("add", "pci", SLOT, PCI_ID="8086:10C9"), 1, 10.0) == []
    assert hotplug.take(uevent("bind", "pci", SLOT, DRIVER="igb"), 2, 10.1) == []
    assert hotplug.take(uevent("add", "block", f"{SLOT}/nvme/nvme0/nvme0n1", DEVTYPE="disk"), 3, 10.2) == []
    assert hotplug.wait_s(10.2) == pytest.approx(SETTLE_S - 0.2)
    assert hotplug.due(10.9) == []
    added, bound, disk = hotplug.due(11.2)
    assert (added.kind, added.key, added.at_ms) == ("pci.added", "0000:02:00.0", 1)
    assert added.text == "PCI device 0000:02:00.0 (Intel 82576 Gigabit) came"
    assert (bound.kind, bound.text) == ("pci.bound", "PCI device 0000:02:00.0 is driven by igb")
    assert (disk.kind, disk.data["pci"]) == ("block.added", "0000:02:00.0")


def test_what_is_left_out() -> None:
    assert not is_told(uevent("add", "net", f"{SLOT}/net/eth0"))
    assert not is_told(uevent("add", "block", "/devices/virtual/block/loop0", DEVTYPE="disk"))
    assert not is_told(uevent("add", "block", f"{SLOT}/nvme/nvme0/nvme0n1/nvme0n1p1", DEVTYPE="partition"))
    assert not is_told(uevent("add", "pci", SLOT, SYNTH_UUID="0"))
    assert not is_told(uevent("change", "pci", SLOT))
    assert not is_told(uevent("bind", "usb", SLOT, DEVTYPE="usb_device"))
    assert not is_told(uevent("add", "thermal", "/devices/virtual/thermal/cooling_device3"))


def test_a_disk_over_nvme_controllers_is_no_virtual_one() -> None:
    devpath = "/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1"
    assert is_told(uevent("add", "block", devpath, DEVTYPE="disk"))


def test_what_drivers_tell_of_devices_that_stay() -> None:
    hotplug = Hotplug(lambda _: {})
    changes = [
        uevent("change", "pci", SLOT, ERROR_EVENT="FAILED_RECOVERY", DEVICE_ONLINE="0"),
        uevent("change", "nvme", f"{SLOT}/nvme/nvme0", NVME_AEN="0x020001"),
        uevent("change", "block", f"{SLOT}/nvme/nvme0/nvme0n1", DEVTYPE="disk", RESIZE="1"),
    ]
    for change in changes:
        hotplug.take(change, 1, 0.0)
    failed, notice, resized = hotplug.flush()
    assert (failed.kind, failed.severity) == ("pcie.recovery", Severity.CRITICAL)
    assert (notice.kind, notice.text) == ("nvme.notice", "NVMe controller nvme0 sends notice 0x020001")
    assert resized.kind == "block.resized"


@given(st.lists(st.tuples(st.sampled_from([*SUBSYSTEMS]), st.sampled_from(["add", "remove", "online"])), max_size=60))
def test_every_announcement_is_told_once_and_in_order(story: list[tuple[str, str]]) -> None:
    hotplug = Hotplug(lambda _: {})
    told: list[Event] = []
    taken = 0
    for at, (subsystem, action) in enumerate(story):
        made = uevent(action, subsystem, f"{SLOT}/thermal_zone{at}", DEVTYPE="usb_device" * (subsystem == "usb"))
        taken += is_told(made)
        told += hotplug.take(made, at, at * 0.3) + hotplug.due(at * 0.3)
    told += hotplug.flush()
    assert len(told) == taken
    assert [event.at_ms for event in told] == sorted(event.at_ms for event in told)


def test_a_storm_waits_in_bounds_and_nothing_is_lost() -> None:
    hotplug = Hotplug(lambda _: {})
    early = [event for at in range(MOST_WAITING + 5) for event in hotplug.take(uevent("add", "pci", SLOT), at, 0.0)]
    assert [event.at_ms for event in early] == [0, 1, 2, 3, 4]
    assert len(hotplug.flush()) == MOST_WAITING
