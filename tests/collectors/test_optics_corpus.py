"""Dumps of real modules against what their standards say of every byte (RACKHAND_SFP_DATA: any folder of that layout).

A folder holds FAMILY/NAME.bin with FAMILY/NAME.json, which says where which bytes lie, and expected/spec/NAME.json.
"""

import functools
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors.transceiver import fact as facts
from collectors.transceiver import readings, reads
from collectors.transceiver.cage import samples
from collectors.transceiver.decode import decode
from collectors.transceiver.image import A0, LOWER, STANDARDS, Image
from collectors.transceiver.says import Module
from tests.collectors.modules import dumps, folder, load

DUMPS = dumps()
EXPECTED = folder() / "expected" / "spec"
IDENTITY = ("id", "rev", "checksum", "partial", "fw_active", "fw_inactive", "hw_rev")
MEDIA = (
    *("len", "cable_m", "attn_db", "wavelength_nm", "wavelength_tol_nm", "tx_tech", "tech", "media_type"),
    *("power_class", "max_power_w", "media_lane_unsupported", "apps"),
)
MONITORS = ("dom", "cal", "ddm", "mon_adv", "pages_adv", "bias_mult", "rx_power_avg")
THRESHOLDS = ("thr",)
FLAGS = ("flags", "flags_implemented", "lane_flags", "status")
STATES = (
    *("flat", "data_not_ready", "module_state", "interrupt_deasserted", "fault_cause", "low_pwr_req_sw"),
    *("low_pwr_allow_hw", "dp_state", "rx_output_valid", "tx_output_valid", "config_status", "active_app"),
)
DIAGNOSTICS = ("vdm", "laser")
TOPICS = (*IDENTITY, *MEDIA, *MONITORS, *THRESHOLDS, *FLAGS, *STATES, *DIAGNOSTICS, "family")
PRESENT = ("dom", "thr", "vdm", "laser", "flags", "status", "cal", "apps", "dp_state", "lane_flags")

CASES = [path for path in DUMPS if (EXPECTED / f"{path.stem}.json").is_file()]

pytestmark = pytest.mark.skipif(
    not folder().is_dir(), reason="the modules' EEPROMs are not here (RACKHAND_SFP_DATA, ../shared/data/sfp)"
)
each = pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
each_dump = pytest.mark.parametrize("path", DUMPS, ids=lambda path: path.stem)


@functools.cache
def decoded(path: Path) -> Module:
    return decode(*load(path))


@functools.cache
def said(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(decoded(path)))
    return found


@functools.cache
def expected(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EXPECTED / f"{path.stem}.json").read_text())
    return found


def printed(text: str) -> str:
    """What the module's text is on one line of a terminal: no padding, nothing that does not print."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text.rstrip("\0 \xff"))


def differences(want: Any, got: Any, where: str) -> list[str]:
    """Every value that differs; a value that is null need not be said, names are ours."""
    if isinstance(want, dict):
        inner: dict[str, Any] = got if isinstance(got, dict) else {}
        names = [name for name in want if name != "name"]
        if "kind" in want and inner.get("kind", "")[:3] == want["kind"][:3]:
            names.remove("kind")
        return [line for name in names for line in differences(want[name], inner.get(name), f"{where}.{name}")]
    if isinstance(want, list):
        items: list[Any] = got if isinstance(got, list) else []
        if len(want) != len(items):
            return [f"{where}: {len(want)} wanted, {len(items)} said"]
        pairs = enumerate(zip(want, items, strict=True))
        return [line for at, (one, other) in pairs for line in differences(one, other, f"{where}[{at}]")]
    return [] if same(want, got) else [f"{where}: {want!r} wanted, {got!r} said"]


def same(want: Any, got: Any) -> bool:
    if isinstance(want, bool) or isinstance(got, bool) or want is None or got is None:
        same_one: bool = want is got
        return same_one
    if isinstance(want, (int, float)):
        return isinstance(got, (int, float)) and math.isclose(want, got, rel_tol=1e-9, abs_tol=1e-12)
    return printed(str(want)) == str(got)


def check(path: Path, topics: tuple[str, ...]) -> None:
    want = {topic: value for topic, value in expected(path).items() if topic in topics and topic != "partial"}
    assert differences(want, said(path), "") == []
    for topic in set(topics) & set(PRESENT):
        assert bool(expected(path).get(topic)) == bool(said(path).get(topic)), topic


def test_the_modules_are_here() -> None:
    assert CASES, f"no dumps with layouts and expected values in {folder()}"
    told = {path.stem for path in EXPECTED.glob("*.json")}
    assert told - {path.stem for path in DUMPS} == set(), "values of modules whose dump is missing"


@pytest.mark.parametrize("path", CASES[:1], ids=lambda path: path.stem)
def test_a_value_that_differs_is_found(path: Path) -> None:
    want = expected(path)
    for topic, value in want.items():
        wrong = {topic: altered(value)}
        assert wrong == {topic: value} or differences(wrong, said(path), ""), topic


def altered(value: Any) -> Any:
    """The same with every number, text and truth changed."""
    if isinstance(value, dict):
        return {name: altered(one) for name, one in value.items()}
    if isinstance(value, list):
        return [altered(one) for one in value]
    if isinstance(value, bool):
        return not value
    return value * 1.001 + 1 if isinstance(value, (int, float)) else f"{value}~"


@each
def test_no_topic_is_left_out(path: Path) -> None:
    assert set(expected(path)) - set(TOPICS) == set()


@each
def test_the_standard_is_known_by_the_bytes_or_by_the_layout(path: Path) -> None:
    image, family = load(path)
    assert decode(image, family).family == expected(path)["family"]
    said_twice = {STANDARDS.get(block[0]) for block in (image.block(LOWER), image.block(0)) if block}
    if said_twice == {expected(path)["family"]}:
        assert decode(image).family == expected(path)["family"]


@each
def test_identity(path: Path) -> None:
    check(path, IDENTITY)
    if "partial" in expected(path):
        assert said(path)["dropped"]


@each
def test_media(path: Path) -> None:
    check(path, MEDIA)


@each
def test_monitors(path: Path) -> None:
    check(path, MONITORS)


@each
def test_thresholds(path: Path) -> None:
    check(path, THRESHOLDS)


@each
def test_flags(path: Path) -> None:
    check(path, FLAGS)


@each
def test_states(path: Path) -> None:
    check(path, STATES)


@each
def test_diagnostics(path: Path) -> None:
    check(path, DIAGNOSTICS)


@each_dump
def test_a_fact_has_no_sentinel_and_no_contradiction(path: Path) -> None:
    module = decoded(path)
    fact = facts.optics(module, "nic", "eth0", readings.believed(module))
    for limits in fact.thresholds.values():
        for high, low in ((limits.high_alarm, limits.low_alarm), (limits.high_warning, limits.low_warning)):
            assert high is None or low is None or high > low
    for metric, limits in fact.thresholds.items():
        values = [level for level in msgspec.structs.astuple(limits) if level is not None]
        assert all(plausible(metric, value) for value in values), (metric, values)
    texts = [
        fact.vendor,
        fact.part,
        fact.serial,
        fact.revision,
        fact.date,
        fact.lot,
        fact.clei,
        *fact.media,
        *fact.dropped,
    ]
    assert all(text.isprintable() for text in texts)
    assert fact.state == "ok" or not fact.lanes or fact.module_state == "fault"


@each
def test_samples_are_what_the_module_says_and_no_sentinel(path: Path) -> None:
    module = decoded(path)
    trusted = readings.believed(module)
    found = list(samples("nic", module, trusted))
    assert len({(sample.metric, sample.key) for sample in found}) == len(found)
    for sample in found:
        assert plausible(sample.metric.removeprefix("optics."), sample.value), sample
    dom = expected(path).get("dom", {}) if path in CASES else {"lanes": []}
    for metric, field in (("rx_power_mw", "rx_mw"), ("tx_power_mw", "tx_mw"), ("tx_bias_ma", "tx_bias_ma")):
        for sample in found:
            if sample.metric == f"optics.{metric}":
                lane = int(sample.key.removeprefix("nic/lane")) - 1
                assert sample.value == pytest.approx(dom["lanes"][lane][field], abs=6e-5)


def plausible(metric: str, value: float) -> bool:
    """Whether a number can be a measurement, by the unit that its name ends with."""
    least, most = {
        "celsius": (-60, 127),
        "volts": (1, 6.5),
        "dbm": (-39.9, 8.17),
        "mw": (0, 6.5534),
        "ma": (0, 65534 * 0.002 * 4),
    }.get(metric.rsplit("_", 1)[-1], (-1e6, 1e6))
    return math.isfinite(value) and least <= value <= most and value not in (-1 / 256, 0.0001)


@each_dump
def test_a_poll_says_the_same_as_the_whole(path: Path) -> None:
    """The runs of a poll, cut out of the dump, give the monitors, flags and states that all of it gives."""
    image, family = load(path)
    module = decode(image, family)
    runs = reads.monitor_reads(module)
    there = {(run.address, run.bank, run.page): image.block(run.page, run.bank, run.address) for run in runs}
    if any(len(there[run.address, run.bank, run.page]) < run.offset + run.length for run in runs) or not runs:
        return
    blocks = {
        (run.address, run.bank, run.page): bytes(run.offset)
        + there[run.address, run.bank, run.page][run.offset : run.offset + run.length]
        for run in runs
    }
    now = reads.fresh(module, blocks)
    assert now.dom == module.dom
    assert now.flags == module.flags
    assert now.status == module.status
    assert now.lane_flags == module.lane_flags
    assert (now.dp_state, now.module_state) == (module.dp_state, module.module_state)
    trusted = readings.believed(module)
    assert list(samples("nic", now, trusted)) == list(samples("nic", module, trusted))


@each_dump
def test_a_dump_that_ends_anywhere_is_decoded_as_far_as_it_goes(path: Path) -> None:
    image, family = load(path)
    for place, block in image.blocks.items():
        for size in {0, 1, 31, 63, 64, 95, 96, 127, len(block) - 1} & set(range(len(block))):
            cut = Image({**image.blocks, place: block[:size]}, [])
            module = decode(cut, family)
            facts.optics(module, "nic", "eth0", readings.believed(module))
            if place == (A0, 0, LOWER) and size < 64:
                assert module.dropped
