"""What the dumps of real modules do not show: rare pages, odd scales, the ends of number formats."""

import struct

import pytest

from collectors.transceiver import cmis, coherent, readings, sff8472, sff8636, vdm, words
from collectors.transceiver import fact as facts
from collectors.transceiver import image as images
from collectors.transceiver.decode import decode
from collectors.transceiver.image import A0, A2, LOWER, Image, Layout, LayoutError, Segment, arrange
from collectors.transceiver.readings import believed
from collectors.transceiver.says import App, Dom, Lane, Levels, Module, Vdm
from hardware_lab import eeprom
from hardware_lab.eeprom import Optic
from tests.collectors.test_optics import changed, image
from wire.facts import OpticsLimits


def built(form: eeprom.Form) -> Image:
    return image(eeprom.build(Optic(form=form)))


def test_a_tunable_sfp_says_its_channel() -> None:
    page = bytearray(128)
    struct.pack_into(">HHHHh", page, 4, 191, 3000, 196, 1000, 500)  # 191.3 to 196.1 THz, 50 GHz
    struct.pack_into(">HH", page, 16, 45, 30_968)
    struct.pack_into(">hh", page, 24, -12, 7)
    page[40], page[44] = 0x10, 3
    there = changed(built("sfp"), A0, LOWER, 65, b"\x5a")
    there.blocks[A2, 0, 2] = bytes(page)
    module = decode(there)
    tuned = module.tunable
    assert tuned
    assert (tuned.first_thz, tuned.last_thz, tuned.grid_ghz, tuned.channel) == (191.3, 196.1, 50.0, 45)
    assert (tuned.wavelength_nm, tuned.freq_error_ghz, tuned.wavelength_error_nm) == (1548.4, -1.2, 0.035)
    assert (tuned.tec_fault, tuned.unlocked, tuned.tuning, tuned.latched) == (False, False, True, 3)
    assert facts.frequency_ghz(module) == 193_500.0


@pytest.mark.parametrize(
    ("raw", "value"),
    [(0x0000, 0.0), (0xC001, 1.0), (0xA864, 1e-1 * 100 * 1e-2), (0x0001, 1e-24), (0xFFFF, 2047e7), (0x87FF, 2047e-8)],
)
def test_the_float_of_cmis(raw: int, value: float) -> None:
    assert vdm.f16(raw) == pytest.approx(value, rel=1e-12)


def observable(number: int, raw: int, *, limits: tuple[int, int, int, int] | None = None) -> Vdm:
    """One instance in the fifth place of the second group, lane 3, threshold set 2."""
    descriptors = bytearray(128)
    descriptors[8], descriptors[9] = 0x22, number
    values, levels, flags = bytearray(128), bytearray(128), bytearray(128)
    struct.pack_into(">H", values, 8, raw)
    struct.pack_into(">4H", levels, 16, *(limits or (0, 0, 0, 0)))
    flags[34] = 0x09  # instance 69 of all: high alarm, low warning
    blocks = {(A0, 0, 0x21): bytes(descriptors), (A0, 0, 0x25): bytes(values), (A0, 0, 0x2C): bytes(flags)}
    if limits:
        blocks[A0, 0, 0x29] = bytes(levels)
    (found,) = vdm.decode(Image(blocks, []), [])
    assert (found.instance, found.lane, found.thr_set) == (69, 3, 19)
    assert found.flags
    assert (found.flags.high_alarm, found.flags.low_alarm, found.flags.low_warn) == (True, False, True)
    return found


@pytest.mark.parametrize(
    ("number", "raw", "name", "value"),
    [
        (2, 0x8001, "tec_pct", -100.0),
        (3, 0xFFFF, "laser_freq_error_mhz", -10),
        (4, 0x1980, "laser_temp_c", 25.5),
        (7, 0x1E00, "pam4_ltp_media_db", 30.0),
        (82, 6500, "vcc0p65_v", 0.65),
        (83, 48_000, "vcc12_v", 12.0),
        (84, 0xFF9C, "els_input_power_dbm", -1.0),
        (135, 0xFFFE, "cd_long_ps_nm", -40),
        (142, 65_535, "evm_pct", 100.0),
        (145, 0xF448, "rx_signal_power_dbm", -30.0),
    ],
)
def test_observables_in_their_units(number: int, raw: int, name: str, value: float) -> None:
    one = observable(number, raw, limits=(raw, 0, raw, 0))
    assert one.name == name
    assert one.value == pytest.approx(value)
    assert one.thr
    assert one.thr.high_alarm == pytest.approx(value)


def test_an_observable_that_nobody_knows_stays_raw() -> None:
    one = observable(255, 4711)
    assert (one.name, one.value, one.raw, one.thr) == (None, None, 4711, None)


@pytest.mark.parametrize(
    ("number", "raw", "told"),
    [
        (5, 0x1500, True),
        (5, 0xFFFF, False),  # FFFFh
        (15, 0xFFFF, False),
        (15, 0xC002, False),  # a ratio of 2
        (15, 0x8001, True),
        (144, 0xF060, False),  # -40 dBm
        (144, 0x8000, False),
        (144, 0xFF38, True),
        (79, 12_000, False),  # a rail is no sample
    ],
)
def test_observables_that_are_sentinels_are_no_sample(number: int, raw: int, told: bool) -> None:
    module = Module("cmis", vdm=[observable(number, raw)])
    assert bool(list(readings.observed(module))) is told


def test_coherent_statistics_lie_where_they_lie() -> None:
    steps = [*range(-3, 0), *range(100, 115), -3, -2, -1, *range(200, 203), *range(-900, -891), *range(6)]
    link = struct.pack(">3i15H3h3H9h6H", *steps).ljust(128, b"\0")
    fec = struct.pack(">5Q5I", *range(1, 11)).ljust(128, b"\0")
    found = coherent.decode(Image({(A0, 0, 0x34): fec, (A0, 0, 0x35): link}, []))
    assert found["cd_ps_nm"] == {"avg": -3.0, "min": -2.0, "max": -1.0}
    assert found["dgd_ps"] == pytest.approx({"avg": 1.0, "min": 1.01, "max": 1.02})
    assert found["esnr_db"] == pytest.approx({"avg": 11.2, "min": 11.3, "max": 11.4})
    assert found["cfo_mhz"]["max"] == -1.0
    assert found["rx_signal_power_dbm"]["max"] == pytest.approx(-8.92)
    assert found["mer_db"] == pytest.approx({"avg": 0.3, "min": 0.4, "max": 0.5})
    assert (found["fec"]["rx_bits"], found["fec"]["rx_uncorrected_frames_sub_interval_max"]) == (1, 10)


def test_external_calibration_never_gives_negative_light_nor_a_number_that_is_none() -> None:
    assert sff8472.received_mw(10, (-1000.0, 1.0, 0.0, 0.0, 0.0)) == 0.0
    assert sff8472.received_mw(0xFFFF, (0.0, 0.0, 0.0, 0.0, 3.4e38)) == pytest.approx(3.4e38 * 65535**4 * 1e-4)
    assert sff8472.received_mw(5, None) is None
    assert sff8472.received_mw(2, (1.0, 2.0, 3.0, 4.0, 5.0)) == pytest.approx((1 + 4 + 12 + 32 + 80) * 1e-4)


@pytest.mark.parametrize(("extended", "number"), [(0x00, 1), (0x40, 2), (0xC0, 4), (0xC1, 5), (0xC3, 7), (0x20, 8)])
def test_power_classes_of_qsfp(extended: int, number: int) -> None:
    assert sff8636.power_class(extended) == number


@pytest.mark.parametrize(
    ("length", "more", "km"), [(0x05, 0, 0.5), (0x4A, 0, 10), (0x88, 0, 80), (0xC1, 0x00, 50), (0xC2, 0xC0, 1000)]
)
def test_single_mode_lengths_of_cmis(length: int, more: int, km: float) -> None:
    there = changed(changed(built("qsfp-dd"), A0, 1, 4, bytes((length,))), A0, 1, 9, bytes((more,)))
    module = decode(there)
    assert module.len["smf_km"] == pytest.approx(km)
    assert facts.lengths(module)["smf"] == pytest.approx(km * 1000)


@pytest.mark.parametrize(("code", "multiplier"), [(0, 1), (1, 2), (2, 4), (3, 1)])
def test_bias_has_a_scale(code: int, multiplier: int) -> None:
    module = decode(changed(built("qsfp-dd"), A0, 1, 32, bytes((0x07 | code << 3,))))
    assert module.dom
    assert module.dom.lanes[0].tx_bias_ma == pytest.approx(6.5 * multiplier)
    assert module.thr["tx_bias"].high_alarm == pytest.approx(12 * multiplier)


def test_auxiliary_monitors_are_what_the_module_chose() -> None:
    assert cmis.aux_kinds(0b000) == ["custom", "laser_temp_c", "laser_temp_c"]
    assert cmis.aux_kinds(0b111) == ["tec_pct", "tec_pct", "vcc2_v"]
    there = changed(changed(built("qsfp-dd"), A0, 1, 17, b"\x05"), A0, 1, 31, b"\x1f")
    there = changed(there, A0, LOWER, 18, struct.pack(">hhH", -16384, 40 * 256, 50_000))
    dom = decode(there).dom
    assert dom
    assert (dom.aux1 and dom.aux1.kind, dom.aux3 and dom.aux3.kind) == ("tec_pct", "vcc2_v")
    found = {one.metric: one.value for one in readings.readings(dom, believed(decode(there)))}
    assert found["tec_percent"] == pytest.approx(-50.0, abs=0.01)
    assert found["laser_temperature_celsius"] == 40.0


def test_lanes_are_those_of_the_applications_that_the_module_has() -> None:
    lanes = [Lane() for _ in range(16)]
    module = Module("cmis", dom=Dom(lanes=lanes), apps=[App(1, 1, 4, 2, 1)], media_assign=[0b0001])
    assert readings.media_lanes(module) == [0, 1, 8, 9]
    module.media_lane_unsupported = 0b10
    assert readings.media_lanes(module) == [0, 8]
    assert readings.media_lanes(Module("cmis", dom=Dom(lanes=lanes[:8]), media_lane_unsupported=0xF0)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("levels", "kept"),
    [
        (Levels(2.0, 0.1, 1.0, 0.2), OpticsLimits(2.0, 0.1, 1.0, 0.2)),
        (Levels(0.0, 0.0, 0.0, 0.0), None),
        (Levels(1.0, 1.0, 1.0, 1.0), None),
        (Levels(6.5535, 0.1, 6.5535, 0.0001), OpticsLimits(None, 0.1, None, None)),
        (Levels(None, None, 1.0, 0.2), OpticsLimits(None, None, 1.0, 0.2)),
    ],
)
def test_thresholds_that_are_set(levels: Levels, kept: OpticsLimits | None) -> None:
    module = decode(built("sfp"))
    module.thr = {"rx_power": levels}
    assert readings.limits(module, believed(module)).get("rx_power_mw") == kept


def test_a_dump_is_laid_out_as_its_layout_says() -> None:
    data = bytes(range(200)) * 2
    layout = Layout([Segment(0, 96, 0), Segment(96, 104, 96), Segment(128, 128, 272, page=3), Segment(0, 4, 8, "0x51")])
    found = arrange(data, layout)
    assert found.block(LOWER) == data[:128]
    assert found.block(0) == data[128:200]
    assert found.block(3) == data[272:400]
    assert found.block(LOWER, address=A2) == data[8:12]
    assert found.dropped == []
    cut = arrange(data[:300], layout)
    assert cut.dropped == ["the dump holds 28 of 128 bytes from 0x50 bank 0 page 03h byte 128"]
    assert arrange(data, Layout([Segment(64, 8, 0)])).dropped == [
        "the bytes before byte 64 of the lower page are missing"
    ]
    with pytest.raises(LayoutError, match="no such segment"):
        arrange(data, Layout([Segment(0, 257, 0)]))


def test_a_dump_without_a_layout_is_the_ioctls() -> None:
    sfp = images.flat(b"\x03" + bytes(127) + b"a" * 128 + b"b" * 128)
    assert set(sfp.blocks) == {(A0, 0, LOWER), (A0, 0, 0), (A2, 0, LOWER)}
    qsfp = images.flat(b"\x11" + bytes(127) + b"a" * 512)
    assert set(qsfp.blocks) == {(A0, 0, LOWER), *((A0, 0, page) for page in range(4))}


@pytest.mark.parametrize(
    ("code", "date"),
    [
        ("210715", ("2021-07-15", "")),
        ("210715A1", ("2021-07-15", "A1")),
        ("000000", ("", "")),
        ("211315X", ("", "X")),
        ("ABCDEF", ("", "ABCDEF")),
        ("", ("", "")),
    ],
)
def test_date_codes(code: str, date: tuple[str, str]) -> None:
    assert words.dated(code) == date


def test_unknown_numbers_are_said_as_numbers() -> None:
    assert words.word(words.CONNECTORS, 0x07) == "LC"
    assert words.word(words.CONNECTORS, 0xF3) == "0xf3"
    assert words.word(words.CONNECTORS, 0) == words.word(words.CONNECTORS, None) == ""
    assert words.coded(words.SFP_CODES, "3000000100000000") == ["10GBASE-LR", "10GBASE-SR", "1000BASE-SX"]
