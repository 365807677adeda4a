"""Whatever bytes a module sends, wherever they end: an answer, in time, without sentinels or control characters."""

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import optics as dumps
from collectors.transceiver import fact as facts
from collectors.transceiver import image as images
from collectors.transceiver import readings, reads
from collectors.transceiver.cage import samples
from collectors.transceiver.decode import decode
from collectors.transceiver.image import A0, A2, LOWER, Image, LayoutError, Place
from collectors.transceiver.words import dated
from machine import MachineError
from machine.eeprom import Flat, Read, place
from tests.collectors.test_optics_corpus import plausible

IDENTIFIERS = st.sampled_from([*images.STANDARDS, 0, 0xFF, 0x1A])
PAGES = st.sampled_from([LOWER, 0, 1, 2, 3, 4, 0x11, 0x12, *range(0x20, 0x2D), 0x34, 0x35])
PLACES: st.SearchStrategy[Place] = st.tuples(st.sampled_from([A0, A2]), st.integers(0, 1), PAGES)
EDGES = st.lists(st.sampled_from([b"\0\0", b"\0\1", b"\xff\xff", b"\x7f\xff", b"\x80\0", b"\x80\x20"]), max_size=64)
BLOCKS = st.binary(max_size=128) | EDGES.map(b"".join) | st.binary(min_size=128, max_size=128)


@st.composite
def modules(draw: st.DrawFn) -> Image:
    """Any blocks, the first of them with an identifier that leads somewhere."""
    blocks = draw(st.dictionaries(PLACES, BLOCKS, max_size=12))
    lower = draw(BLOCKS)
    blocks[A0, 0, LOWER] = bytes((draw(IDENTIFIERS),)) + lower[1:]
    if draw(st.booleans()):  # announce diagnostics, be ready
        block = bytearray(blocks[A0, 0, LOWER].ljust(128, b"\0"))
        block[92], block[8], block[2], block[3] = 0x68, 0, 0, 7
        blocks[A0, 0, LOWER] = bytes(block)
        blocks.setdefault((A2, 0, LOWER), draw(st.binary(min_size=120, max_size=128)))
    return Image(blocks, [])


def reported(image: Image, family: str = "") -> None:
    """Decode it as the collector does and look at all that would leave the machine."""
    module = decode(image, family)
    trusted = readings.believed(module)
    fact = facts.optics(module, "nic", "eth0", trusted)
    encoded = msgspec.json.encode((module, fact))
    assert b"Infinity" not in encoded
    texts = [fact.vendor, fact.part, fact.serial, fact.revision, fact.date, fact.lot, fact.clei, *fact.dropped]
    assert all(text.isprintable() for text in texts)
    for metric, limits in fact.thresholds.items():
        assert all(plausible(metric, level) for level in msgspec.structs.astuple(limits) if level is not None), metric
    for sample in samples("nic", module, trusted):
        assert math.isfinite(sample.value)
        assert plausible(sample.metric.removeprefix("optics."), sample.value), sample


@given(modules())
@settings(max_examples=400)
def test_any_module_is_decoded_without_sentinels(image: Image) -> None:
    reported(image)


@given(modules(), st.sampled_from(["sff8472", "sff8636", "cmis", "", "x"]))
def test_any_module_taken_for_any_other(image: Image, family: str) -> None:
    reported(image, family)


@given(modules(), st.data())
def test_a_poll_of_a_module_that_has_become_another(image: Image, data: st.DataObject) -> None:
    module = decode(image)
    blocks = {
        (run.address, run.bank, run.page): data.draw(
            st.binary(min_size=run.offset + run.length, max_size=run.offset + run.length)
        )
        for run in reads.monitor_reads(module)
    }
    if not blocks:
        return
    now = reads.fresh(module, blocks)
    trusted = readings.believed(module)
    fact = facts.with_state(facts.optics(module, "nic", "eth0", trusted), now, trusted)
    assert fact.serial == facts.optics(module, "nic", "eth0", trusted).serial
    for sample in samples("nic", now, trusted):
        assert plausible(sample.metric.removeprefix("optics."), sample.value), sample


@given(modules())
def test_reading_asks_within_a_block_and_comes_to_an_end(image: Image) -> None:
    asked: list[Read] = []

    def read(run: Read) -> bytes:
        asked.append(run)
        assert 0 <= run.offset < run.offset + run.length <= 128
        if (run.address, run.bank, run.page) not in image.blocks:
            raise MachineError("no answer")
        return image.blocks[run.address, run.bank, run.page].ljust(128, b"\0")[run.offset : run.offset + run.length]

    whole = reads.read_image(read)
    assert len(asked) == len(set(asked)) <= 40
    reported(whole)


@given(st.binary(max_size=2048))
def test_any_flat_dump(data: bytes) -> None:
    try:
        dump = dumps.decoded(images.flat(dumps.unhexed(data)))
    except dumps.DumpError as error:
        assert str(error)
        assert "\n" not in str(error)
        return
    assert dumps.text(dump).replace("\n", "").isprintable()
    reported(images.flat(data))


NUMBERS = st.integers(-(2**70), 2**70) | st.integers(-2, 260)
SEGMENTS = st.fixed_dictionaries(
    {"offset": NUMBERS, "length": NUMBERS, "file_offset": NUMBERS},
    optional={"i2c": st.sampled_from(["0x50", "0x51", "x", ""]), "bank": NUMBERS, "page": NUMBERS},
)
LAYOUTS = st.fixed_dictionaries({"segments": st.lists(SEGMENTS, max_size=5)}, optional={"family": st.text(max_size=9)})


@given(st.binary(max_size=600), LAYOUTS.map(msgspec.json.encode) | st.binary(max_size=60))
def test_any_layout_fits_or_says_why_not(data: bytes, text: bytes) -> None:
    try:
        layout = images.read_layout(text)
        image = images.arrange(data, layout)
    except LayoutError as error:
        assert len(str(error)) < 400
        assert "\n" not in str(error)
        return
    assert all(len(block) <= 128 for block in image.blocks.values())
    reported(image, layout.family)


@given(st.text(max_size=10))
def test_a_date_is_one_or_none(code: str) -> None:
    date, _ = dated(code)
    assert date == "" or (len(date) == 10 and date.startswith("20"))


@given(st.booleans(), st.integers(0, 40_000), st.sampled_from([A0, A2]), st.integers(0, 2), PAGES)
def test_a_place_in_the_ioctl_lies_within_it(sfp: bool, size: int, address: int, bank: int, page: int) -> None:
    at = place(Flat(sfp, size), Read(address, bank, page))
    assert at is None or 0 <= at <= size - 128


@pytest.mark.parametrize("fill", [0x00, 0xFF])
@pytest.mark.parametrize("identifier", sorted(images.STANDARDS))
def test_erased_memory_measures_nothing(identifier: int, fill: int) -> None:
    pages = [LOWER, 0, 1, 2, 3, 4, 0x11, 0x12, *range(0x20, 0x2D), 0x2F]
    blocks = {(address, 0, page): bytes((fill,)) * 128 for address in (A0, A2) for page in pages}
    blocks[A0, 0, LOWER] = bytes((identifier,)) + blocks[A0, 0, LOWER][1:]
    module = decode(Image(blocks, []))
    assert list(samples("nic", module, readings.believed(module))) == []
    assert facts.optics(module, "nic", "eth0", readings.believed(module)).thresholds == {}
