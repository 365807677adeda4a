"""The optics collector over NICs that answer as drivers do: what it reads, what it believes, what it tells."""

import gc
import weakref
from pathlib import Path

import msgspec
import pytest

from collectors import optics
from collectors.run import run
from collectors.transceiver import cage, readings, vdm
from collectors.transceiver.decode import decode
from collectors.transceiver.image import A0, A2, LOWER, Image
from hardware_lab import eeprom
from hardware_lab.eeprom import Lane, Levels, Optic
from machine import DeniedError
from tests.collectors.modules import EIO, ENODEV, ENXIO, EOPNOTSUPP, Rack
from wire.facts import FACT, Optics, OpticsLimits
from wire.report import Event, Severity, Status

FORMS = list(eeprom.LANES)


def image(module: eeprom.Module) -> Image:
    """The blocks of a module that the lab built."""
    blocks = {}
    for address, space in ((A0, module.a0), (A2, module.a2)):
        for number, block in space.items():
            bank, page = divmod(max(number - 1, 0), 256)
            blocks[address, bank, page if number else LOWER] = block
    return Image(blocks, [])


def built(**fields: object) -> Image:
    return image(eeprom.build(msgspec.convert(fields, Optic)))


def changed(old: Image, address: int, page: int, at: int, data: bytes) -> Image:
    """The image with other bytes from byte `at` of a block on."""
    block = old.blocks[address, 0, page]
    return Image({**old.blocks, (address, 0, page): block[:at] + data + block[at + len(data) :]}, [])


def collect(rack: Rack) -> tuple[list[Optics], dict[tuple[str, str], float], list[Event]]:
    result = run(optics, rack, 1)  # type: ignore[arg-type]
    assert result.status is Status.OK, result.reason
    facts = [fact for fact in result.facts if isinstance(fact, Optics)]
    assert [FACT.decode(msgspec.json.encode(fact)) for fact in facts] == facts
    return (
        facts,
        {(sample.metric.removeprefix("optics."), sample.key): sample.value for sample in result.samples},
        result.events,
    )


KEY = "02:00:00:00:00:01"


@pytest.mark.parametrize("form", FORMS)
def test_a_module_is_read_whole_and_then_its_monitors_alone(form: str, tmp_path: Path) -> None:
    rack = Rack(tmp_path, {"eth0": built(form=form, serial="LAB7")})
    (fact,), samples, events = collect(rack)
    assert (fact.key, fact.ifname, fact.vendor, fact.part, fact.serial) == (KEY, "eth0", "LABOPTIC", "LAB-SR", "LAB7")
    assert (fact.state, fact.date, fact.diagnostics) == ("ok", "2025-01-01", "internal")
    assert all(fact.checksums.values())
    assert fact.thresholds["temperature_celsius"] == OpticsLimits(75.0, -5.0, 70.0, 0.0)
    assert samples["temperature_celsius", KEY] == 38.0
    assert samples["vcc_volts", KEY] == pytest.approx(3.3)
    lanes = eeprom.LANES[form]  # type: ignore[index]
    assert {key for metric, key in samples if metric == "rx_power_dbm"} == {f"{KEY}/lane{n + 1}" for n in range(lanes)}
    assert samples["rx_power_dbm", f"{KEY}/lane1"] == pytest.approx(-3.0103)
    assert samples["tx_power_mw", f"{KEY}/lane{lanes}"] == pytest.approx(0.6)
    assert samples["tx_bias_ma", f"{KEY}/lane1"] == pytest.approx(6.5)
    assert events == []

    rack.asked.clear()
    again, polled, events = collect(rack)
    assert (again, polled, events) == ([fact], samples, [])
    most = {"sfp": 24, "qsfp28": 64, "qsfp-dd": 48 + 88}[form]
    assert sum(run[-1] for run in rack.asked) == most, "monitors and flags alone"


def test_the_ioctl_is_asked_where_netlink_is_not(tmp_path: Path) -> None:
    for number, form in enumerate(FORMS):
        there = built(form=form)
        (one,), samples, _ = collect(Rack(tmp_path / f"n{number}", {"eth0": there}))
        rack = Rack(tmp_path / f"i{number}", {"eth0": there}, netlink=False)
        (other,), same, _ = collect(rack)
        assert other.serial == one.serial
        assert same["temperature_celsius", KEY] == samples["temperature_celsius", KEY]
        if form != "qsfp-dd":  # whose lanes are on pages that the ioctl does not have
            assert (other, same) == (one, samples)
        else:
            assert any("page 11h" in line for line in other.dropped)


def test_cages_that_are_empty_and_drivers_that_have_none(tmp_path: Path) -> None:
    assert collect(Rack(tmp_path / "a", {"eth0": ENODEV, "eth1": ENXIO})) == ([], {}, [])
    result = run(optics, Rack(tmp_path / "b", {"eth0": EOPNOTSUPP}), 1)  # type: ignore[arg-type]
    assert (result.status, result.reason) == (Status.ABSENT, "no NIC has a driver that reads modules")


def test_without_the_right_to_read_it_fails_and_says_so(tmp_path: Path) -> None:
    result = run(optics, Rack(tmp_path, {"eth0": 1}), 1)  # type: ignore[arg-type]
    assert result.status is Status.FAILED
    assert result.reason.startswith(DeniedError.__name__)


def test_flags_are_events_at_their_edges(tmp_path: Path) -> None:
    base = eeprom.build(Optic(form="qsfp28"))
    rack = Rack(tmp_path, {"eth0": image(base)})
    assert collect(rack)[2] == []
    hot = eeprom.with_monitor(eeprom.with_monitor(base, "temperature_c", 80.0), "rx_mw", 0.01, 2)
    rack.cages["eth0"] = image(hot)
    (fact,), samples, events = collect(rack)
    assert fact.flags == ["temperature high alarm", "temperature high warning"]
    assert fact.lanes[2].flags == ["rx_power low alarm", "rx_power low warning"]
    assert samples["temperature_celsius", KEY] == 80.0
    assert [(event.kind, event.text) for event in events] == [
        ("optics.alarm", "eth0: temperature high alarm"),
        ("optics.warning", "eth0: temperature high warning"),
        ("optics.alarm", "eth0 lane 3: rx_power low alarm"),
        ("optics.warning", "eth0 lane 3: rx_power low warning"),
    ]
    assert (events[0].severity, events[0].key) == (Severity.CRITICAL, KEY)
    assert events[2].data == {"serial": "LAB0000001", "lane": 3, "flag": "rx_power low alarm"}
    assert collect(rack)[2] == [], "the same flags are no news"
    rack.cages["eth0"] = image(base)
    assert [event.kind for event in collect(rack)[2]] == ["optics.cleared"] * 4


def test_lanes_of_a_port_that_is_down_alarm_nobody_until_it_is_up(tmp_path: Path) -> None:
    base = eeprom.build(Optic())
    rack = Rack(tmp_path, {"eth0": image(base)})
    collect(rack)
    rack.up.clear()
    rack.cages["eth0"] = image(eeprom.with_monitor(base, "rx_mw", 0.001))
    (fact,), _, events = collect(rack)
    assert fact.lanes[0].flags == ["rx_power low alarm", "rx_power low warning"]
    assert events == []
    rack.up.add("eth0")
    assert [event.kind for event in collect(rack)[2]] == ["optics.alarm", "optics.warning"]


def test_a_module_is_pulled_and_another_is_inserted(tmp_path: Path) -> None:
    rack = Rack(tmp_path, {"eth0": built(serial="ONE")})
    collect(rack)
    rack.cages["eth0"] = ENODEV
    facts, samples, events = collect(rack)
    assert (facts, samples) == ([], {})
    assert [event.text for event in events] == ["eth0: LABOPTIC LAB-SR ONE removed"]
    assert collect(rack) == ([], {}, [])
    rack.cages["eth0"] = built(serial="TWO", form="qsfp28")
    (fact,), _, events = collect(rack)
    assert (fact.serial, fact.form) == ("TWO", "QSFP28")
    assert [(event.kind, event.text) for event in events] == [("optics.inserted", "eth0: LABOPTIC LAB-SR TWO inserted")]


@pytest.mark.parametrize("form", FORMS)
def test_a_module_that_is_swapped_between_polls_is_found_by_the_carrier_or_in_time(form: str, tmp_path: Path) -> None:
    rack = Rack(tmp_path, {"eth0": built(form=form, serial="ONE")})
    collect(rack)
    rack.cages["eth0"] = built(form=form, serial="TWO")
    (tmp_path / "sys/class/net/eth0/carrier_changes").write_text("3")
    facts, _, events = collect(rack)
    assert [fact.serial for fact in facts] == ["TWO"]
    assert [event.kind for event in events] == ["optics.removed", "optics.inserted"]
    rack.cages["eth0"] = built(form=form, serial="THREE")
    assert "THREE" in [collect(rack)[0][0].serial for _ in range(cage.CHECK_EVERY)]


def test_a_module_that_does_not_answer_keeps_its_name(tmp_path: Path) -> None:
    rack = Rack(tmp_path, {"eth0": built(), "eth1": built(serial="OTHER")})
    collect(rack)
    rack.cages["eth0"] = EIO
    (lost, other), samples, events = collect(rack)
    assert (lost.state, lost.serial, lost.lanes) == ("unreadable", "LAB0000001", [])
    assert "Input/output error" in lost.reason
    assert other.state == "ok", "one module's fault is its own"
    assert {key for _, key in samples} == {"02:00:00:00:00:02", "02:00:00:00:00:02/lane1"}
    assert [event.kind for event in events] == ["optics.unreadable"]
    assert collect(rack)[2] == []
    rack.cages["eth0"] = built()
    (healed, _), _, events = collect(rack)
    assert (healed.state, healed.reason, events) == ("ok", "", [])


def test_a_page_that_fails_or_is_another_costs_what_stands_on_it(tmp_path: Path) -> None:
    there = built(form="qsfp-dd")
    rack = Rack(tmp_path / "a", {"eth0": there})
    rack.fails["eth0", 2] = EIO
    (fact,), samples, _ = collect(rack)
    assert fact.thresholds == {}
    assert any(line.startswith("page 02h: ") for line in fact.dropped)
    assert samples["temperature_celsius", KEY] == 38.0
    del there.blocks[A0, 0, 2]
    (fact,), _, _ = collect(Rack(tmp_path / "b", {"eth0": there}))
    assert fact.dropped == ["page 02h is a copy of page 00h", "page 02h has 0 bytes: no thresholds"]


def test_a_wrong_sum_is_read_again_and_then_said(tmp_path: Path) -> None:
    rack = Rack(tmp_path, {"eth0": image(eeprom.corrupted(eeprom.build(Optic())))})
    (fact,), samples, _ = collect(rack)
    assert fact.checksums == {"cc_base": False, "cc_ext": True, "cc_dmi": True}
    assert samples["temperature_celsius", KEY] == 38.0, "nothing else is doubted"
    asked = [run[1:] for run in rack.asked][1:]
    assert asked == [
        (A0, 0, LOWER, 0, 128),
        (A2, 0, LOWER, 0, 128),
        (A0, 0, LOWER, 0, 128),
        (A2, 0, LOWER, 0, 96),
    ], "no flag is read twice"


def test_a_race_on_the_bus_is_over_when_it_is_read_again(tmp_path: Path) -> None:
    good = built(form="qsfp28")
    rack = Rack(tmp_path, {"eth0": changed(good, A0, 0, 20, b"XY")})
    rack.later["eth0", 0] = (2, good)
    (fact,), _, _ = collect(rack)
    assert (all(fact.checksums.values()), fact.vendor) == (True, "LABOPTIC")


def test_an_erased_module_is_not_ready_and_is_read_whole_when_it_is(tmp_path: Path) -> None:
    rack = Rack(tmp_path, {"eth0": Image({(A0, 0, LOWER): b"\xff" * 128, (A0, 0, 0): b"\xff" * 128}, [])})
    (fact,), samples, events = collect(rack)
    assert (fact.state, samples, events) == ("not ready", {}, [])
    rack.cages["eth0"] = built()
    (fact,), _, events = collect(rack)
    assert (fact.state, fact.vendor) == ("ok", "LABOPTIC")
    assert [event.kind for event in events] == ["optics.inserted"]


def test_a_module_of_another_kind_says_what_it_is_called(tmp_path: Path) -> None:
    block = bytes((0x06, *range(127)))
    (fact,), samples, _ = collect(Rack(tmp_path, {"eth0": Image({(A0, 0, LOWER): block, (A0, 0, 0): block}, [])}))
    assert (fact.state, fact.form, fact.identifier, samples) == ("unknown module", "XFP", 6, {})
    assert fact.dropped == ["identifier 06h: of no standard that is known, nothing is decoded"]


def test_a_module_that_is_not_ready_says_its_name_and_measures_nothing(tmp_path: Path) -> None:
    low = changed(built(form="qsfp-dd"), A0, LOWER, 3, bytes((1 << 1,)))
    waits = changed(built(form="qsfp28"), A0, LOWER, 2, b"\x01")
    warm = changed(built(form="sfp"), A2, LOWER, 110, b"\x01")
    facts, samples, events = collect(Rack(tmp_path, {"eth0": low, "eth1": waits, "eth2": warm}))
    assert [(fact.state, fact.vendor) for fact in facts] == [
        ("low power", "LABOPTIC"),
        ("not ready", "LABOPTIC"),
        ("not ready", "LABOPTIC"),
    ]
    assert (samples, events) == ({}, [])


def test_the_lane_states_of_cmis(tmp_path: Path) -> None:
    there = built(form="qsfp-dd")
    rack = Rack(tmp_path, {"eth0": there})
    (fact,), _, _ = collect(rack)
    assert (fact.module_state, len(fact.lanes)) == ("ready", 8)
    assert {(lane.data_path, lane.config, lane.application) for lane in fact.lanes} == {("activated", "success", 1)}
    assert [(app.host, app.media, app.host_lanes) for app in fact.applications] == [("400GAUI-8", "400GBASE-SR8", 8)]
    rack.cages["eth0"] = changed(there, A0, 0x11, 0, b"\x14")
    (fact,), _, _ = collect(rack)
    assert [lane.data_path for lane in fact.lanes[:3]] == ["activated", "deactivated", "activated"]


def test_a_module_fault_is_an_alarm_with_its_cause(tmp_path: Path) -> None:
    there = built(form="qsfp-dd")
    rack = Rack(tmp_path, {"eth0": there})
    collect(rack)
    rack.cages["eth0"] = changed(changed(there, A0, LOWER, 3, b"\x0a"), A0, LOWER, 41, b"\x02")
    (fact,), samples, events = collect(rack)
    assert (fact.state, fact.flags, fact.fault_cause, samples) == ("fault", ["module fault"], 2, {})
    assert [(event.kind, event.text) for event in events] == [("optics.alarm", "eth0: module fault")]


def test_a_page_of_names_that_is_unreadable_leaves_the_monitors(tmp_path: Path) -> None:
    there = built(form="qsfp28")
    rack = Rack(tmp_path, {"eth0": there})
    rack.fails["eth0", 0] = EIO
    (fact,), samples, _ = collect(rack)
    assert (fact.standard, fact.state, fact.reason, fact.vendor) == ("sff8636", "ok", "no identity", "")
    assert samples["temperature_celsius", KEY] == 38.0


SENTINELS = [(0x0000, "rx_power_mw", 0.0), (0x0001, "rx_power_mw", None), (0xFFFF, "rx_power_mw", None)]


@pytest.mark.parametrize(("raw", "metric", "value"), SENTINELS)
def test_light_that_is_none(raw: int, metric: str, value: float | None, tmp_path: Path) -> None:
    there = changed(built(), A2, LOWER, 104, raw.to_bytes(2, "big"))
    _, samples, _ = collect(Rack(tmp_path, {"eth0": there}))
    assert samples.get((metric, f"{KEY}/lane1")) == value
    assert ("rx_power_dbm", f"{KEY}/lane1") not in samples


@pytest.mark.parametrize("raw", [b"\x7f\xff", b"\x80\x00", b"\xff\xff"])
def test_temperatures_that_are_none(raw: bytes, tmp_path: Path) -> None:
    _, samples, _ = collect(Rack(tmp_path, {"eth0": changed(built(), A2, LOWER, 96, raw)}))
    assert ("temperature_celsius", KEY) not in samples
    assert ("vcc_volts", KEY) in samples


@pytest.mark.parametrize("vcc", [b"\0\0", b"\xff\xff"])
def test_without_a_supply_nothing_is_measured(vcc: bytes, tmp_path: Path) -> None:
    _, samples, _ = collect(Rack(tmp_path, {"eth0": changed(built(), A2, LOWER, 98, vcc)}))
    assert samples == {}


def test_thresholds_that_are_not_set_are_none_and_raise_no_flag(tmp_path: Path) -> None:
    nothing = Levels(0, 0, 0, 0)
    half = Levels(1.0, 0.0001, 0.5, 0.6)  # -40 dBm, and a low one above the high one
    levels = {**eeprom.LEVELS, "bias_ma": nothing, "rx_mw": half}
    there = image(eeprom.build(Optic(levels=levels)))
    there = changed(changed(there, A2, LOWER, 112, b"\xff\xff"), A2, LOWER, 0, b"\x7f\xff\x80\x00")
    (fact,), _, _ = collect(Rack(tmp_path, {"eth0": there}))
    assert "tx_bias_ma" not in fact.thresholds
    assert fact.thresholds["rx_power_mw"] == OpticsLimits(high_alarm=1.0)
    assert fact.thresholds["rx_power_dbm"] == OpticsLimits(high_alarm=0.0)
    assert fact.thresholds["temperature_celsius"] == OpticsLimits(None, None, 70.0, 0.0)
    assert fact.flags == ["supply high alarm", "supply low alarm"]
    assert fact.lanes[0].flags == ["tx_power high alarm", "tx_power low alarm", "rx_power high alarm"]


def test_monitors_that_nobody_should_believe(tmp_path: Path) -> None:
    twin = built()
    twin.blocks[A2, 0, LOWER] = twin.blocks[A0, 0, LOWER]
    moved = changed(built(), A0, LOWER, 92, b"\x6c")
    copper = built(vendor="OEM", part="SFP-10G-T")
    cable = changed(built(form="qsfp28"), A0, 0, 19, b"\xa0")
    names = ("eth0", "eth1", "eth2", "eth3")
    facts, samples, _ = collect(Rack(tmp_path, dict(zip(names, (twin, moved, copper, cable), strict=True))))
    assert [fact.reason for fact in facts] == [
        "A2h is a copy of A0h",
        "diagnostics only after a change of address, which is a write",
        "",
        "a copper cable",
    ]
    assert facts[2].media == ["10GBASE-T"]
    assert facts[2].wavelength_nm is None
    key = facts[2].key
    assert set(samples) == {("temperature_celsius", key), ("vcc_volts", key)}


def test_a_hostile_name_is_one_line_that_prints(tmp_path: Path) -> None:
    there = changed(built(), A0, LOWER, 20, b"\x1b[31mEVIL\r\n\x00\x9b2J")
    rack = Rack(tmp_path, {"eth0": there})
    (fact,), _, _ = collect(rack)
    assert fact.vendor.isprintable()
    rack.cages["eth0"] = ENODEV
    assert all(event.text.isprintable() for event in collect(rack)[2])


def test_banks_are_lanes_nine_and_on(tmp_path: Path) -> None:
    there = changed(built(form="qsfp-dd"), A0, 1, 14, b"\x01")
    there.blocks[A0, 1, 0x11] = there.blocks[A0, 0, 0x11]
    (fact,), samples, _ = collect(Rack(tmp_path, {"eth0": there}))
    assert [lane.lane for lane in fact.lanes] == list(range(1, 17))
    assert ("rx_power_dbm", f"{KEY}/lane16") in samples


def test_all_samples_are_declared(tmp_path: Path) -> None:
    metrics = {*readings.COMMON.values(), *readings.LANE.values(), *readings.AUX.values(), *vdm.WANTED.values()}
    assert {f"optics.{metric}" for metric in metrics} | {"optics.tx_power_dbm", "optics.rx_power_dbm"} == set(
        optics.ABOUT.metrics
    )


def test_the_lanes_of_a_lab_module_are_its_own(tmp_path: Path) -> None:
    lanes = tuple(Lane(tx_mw=0.5 + lane / 10) for lane in range(4))
    module = decode(image(eeprom.build(Optic(form="qsfp28", lanes=lanes))))
    assert module.dom
    assert [lane.tx_mw for lane in module.dom.lanes] == pytest.approx([0.5, 0.6, 0.7, 0.8])


def test_a_machine_is_forgotten_with_its_cages(tmp_path: Path) -> None:
    racks = [Rack(tmp_path, {"eth0": built()})]
    collect(racks[0])
    gone = weakref.ref(racks.pop())
    gc.collect()
    assert gone() is None
