"""Which bytes of a module are worth reading: all of it once, its monitors at every poll, its name now and then.

Every run begins and ends at a multiple of eight bytes: there are drivers that read others wrongly.
"""

from collections.abc import Callable, Iterator

from collectors.transceiver import sff8472, sff8636
from collectors.transceiver.image import A0, A2, LOWER, Blocks, Image, standard_of
from collectors.transceiver.says import Module
from machine import MachineError
from machine.eeprom import Read

Reader = Callable[[Read], bytes]

_CMIS_STATE, _CMIS_LANES = 48, 88  # bytes of the lower page and of page 11h
_BANKS = {0: 1, 1: 2, 2: 4}
_VDM_CONTROL, _VDM_INSTANCES = 0x2F, 64  # instances of a page
# Where serial number and checksum lie: what tells that it is still the same module.
NAMES = {
    "sff8472": Read(A0, 0, LOWER, 56, 40),
    "sff8636": Read(A0, 0, 0, 56, 40),
    "cmis": Read(A0, 0, 0, 32, 64),
}
# What the sums are over: no flag lies there, so it may be read twice.
SUMMED = {
    "sff8472": (Read(A0, 0, LOWER), Read(A2, 0, LOWER, 0, 96)),
    "sff8636": (Read(A0, 0, 0),),
    "cmis": (Read(A0, 0, 0), Read(A0, 0, 1), Read(A0, 0, 2)),
}


def read_image(read: Reader) -> Image:
    """All of a module that its standard lets us read. Raises MachineError when not even its first block answers."""
    image = Image({}, [])
    image.blocks[A0, 0, LOWER] = read(Read(A0, 0, LOWER))
    match standard_of(image):
        case "sff8472":
            _sfp(image, read)
        case "sff8636":
            _take(image, read, Read(A0, 0, 0))
            if not image.block(LOWER)[2] & 4:
                _take(image, read, Read(A0, 0, 3))
        case "cmis":
            _take(image, read, Read(A0, 0, 0))
            if not image.block(LOWER)[2] & 0x80:
                _cmis(image, read)
        case _:
            if _says_something(image.block(LOWER)):
                _take(image, read, Read(A0, 0, 0))
    return image


def _says_something(block: bytes) -> bool:
    return len(set(block)) > 1


def _take(image: Image, read: Reader, run: Read) -> bytes:
    """Add a block, unless it does not answer or is page 00h once more, as drivers answer for pages they cannot read."""
    try:
        data = read(run)
    except MachineError as error:
        image.dropped.append(f"page {run.page:02x}h: {error}" if run.page != LOWER else f"A2h: {error}")
        return b""
    if run.address == A0 and run.page > 0 and data == image.block(0):
        image.dropped.append(f"page {run.page:02x}h is a copy of page 00h")
        return b""
    image.blocks[run.address, run.bank, run.page] = data
    return data


def _sfp(image: Image, read: Reader) -> None:
    """A0h is read; A2h where it is announced and needs no change of address, which is a write."""
    a0 = image.block(LOWER)
    if not a0[92] & 0x40 or a0[92] & 0x04:
        return
    _take(image, read, Read(A2, 0, LOWER))
    if a0[65] & 0x40:
        _take(image, read, Read(A2, 0, 2))


def _cmis(image: Image, read: Reader) -> None:
    advertised = _take(image, read, Read(A0, 0, 1))
    _take(image, read, Read(A0, 0, 2))
    if not advertised:
        return
    bits, tunable = advertised[14], advertised[27] & 0x40
    for bank in range(_BANKS.get(bits & 3, 1)):
        _take(image, read, Read(A0, bank, 0x11))
    if tunable:
        _take(image, read, Read(A0, 0, 4))
        _take(image, read, Read(A0, 0, 0x12))
    if bits & 0x40:
        _diagnostics(image, read)
    if bits & 0x10:
        _take(image, read, Read(A0, 0, 0x34))
        _take(image, read, Read(A0, 0, 0x35))


def _diagnostics(image: Image, read: Reader) -> None:
    control = _take(image, read, Read(A0, 0, _VDM_CONTROL))
    for group in range((control[0] & 3) + 1 if control else 1):
        for first in (0x20, 0x24, 0x28):
            _take(image, read, Read(A0, 0, first + group))
    _take(image, read, Read(A0, 0, 0x2C))


def read_again(image: Image, read: Reader, family: str) -> Image:
    """The image with what its sums are over read anew: a race on the bus is over by then. Raises MachineError."""
    blocks = dict(image.blocks)
    for run in SUMMED[family]:
        place = (run.address, run.bank, run.page)
        if place in blocks:
            blocks[place] = read(run) + blocks[place][run.length :]
    return Image(blocks, image.dropped)


def monitor_reads(module: Module) -> list[Read]:
    """The runs of one poll, none for a module without monitors."""
    match module.family:
        case "sff8472":
            return [Read(A2, 0, LOWER, 96, sff8472.MONITORS - 96)] if module.dom else []
        case "sff8636":
            return [Read(A0, 0, LOWER, 0, sff8636.MONITORS)]
        case "cmis" if not module.flat:
            return [Read(A0, 0, LOWER, 0, _CMIS_STATE), *_lane_reads(module), *_vdm_reads(module)]
        case _:
            return []


def _lane_reads(module: Module) -> Iterator[Read]:
    return (Read(A0, bank, 0x11, 0, _CMIS_LANES) for bank in range(len(module.dp_state) // 8))


def _vdm_reads(module: Module) -> Iterator[Read]:
    groups = sorted({(one.instance - 1) // _VDM_INSTANCES for one in module.vdm if one.value is not None})
    return (Read(A0, 0, 0x24 + group) for group in groups if module.pages_adv.get("vdm"))


def read_monitors(read: Reader, runs: list[Read]) -> Blocks:
    """The blocks of a poll, bytes that were not asked for as zero; raises MachineError when one does not answer."""
    blocks: Blocks = {}
    for run in runs:
        blocks[run.address, run.bank, run.page] = bytes(run.offset) + read(run)
    return blocks


def fresh(module: Module, blocks: Blocks) -> Module:
    """What a poll's bytes say of a module that was decoded whole before: state, monitors and flags alone."""
    now = Module(module.family)
    match module.family:
        case "sff8472":
            _fresh_sfp(now, module, blocks[A2, 0, LOWER])
        case "sff8636":
            lower = blocks[A0, 0, LOWER]
            now.data_not_ready = bool(lower[2] & 1)
            now.dom, now.flags = sff8636.monitors(lower), sff8636.alarm_flags(lower)
            now.lane_flags = sff8636.lane_flags(lower)
        case _:
            from collectors.transceiver import cmis  # noqa: PLC0415

            cmis.refresh(now, module, blocks)
    return now


def _fresh_sfp(now: Module, module: Module, a2: bytes) -> None:
    calibration = sff8472.recalled(module.cal) if module.cal else None
    now.dom, now.flags, now.status = sff8472.monitors(a2, calibration), {**sff8472.alarm_flags(a2)}, sff8472.status(a2)
    now.flags_implemented = module.flags_implemented
    if module.dom and module.dom.tec_ma is not None:
        now.dom.tec_ma, now.dom.laser_temp_or_wl_raw = sff8472.cooling(a2)


def name_of(read: Reader, family: str) -> bytes:
    """The bytes that tell modules apart, b"" for a kind that has none. Raises MachineError."""
    return read(NAMES[family]) if family in NAMES else b""


def name_in(image: Image, family: str) -> bytes:
    """The same of a whole image."""
    if family not in NAMES:
        return b""
    run = NAMES[family]
    return image.block(run.page)[run.offset : run.offset + run.length]


def is_blank(image: Image) -> bool:
    """Whether the module says nothing yet: erased bytes, as just after it was inserted."""
    lower = image.block(LOWER)
    return not lower or not _says_something(lower)
