"""One poll of a BMC over IPMI, in the worker's child: identity, chassis, sensors, event log, FRUs, power."""

from collections.abc import Callable, Iterator
from uuid import UUID

import msgspec

from pollers import ipmi_command, ipmi_fru, ipmi_sdr, ipmi_sel
from pollers.bmc_job import JOB, Answer, Job
from pollers.bmc_sensor import METRICS
from pollers.ipmi_sdr import FruLocator, Sensor
from pollers.ipmi_sel import Clock, SelInfo
from pollers.ipmi_session import Session, session
from pollers.target import DeviceError
from wire.facts import Bmc, BmcSensor, Fact, Fru
from wire.facts.bmc import MANUFACTURERS
from wire.report import Event, Sample, Severity

CHASSIS, SENSOR, APP, STORAGE, TRANSPORT, DCMI = 0x00, 0x04, 0x06, 0x0A, 0x0C, 0x2C
THIS_CHANNEL, BMC_ADDRESS = 0x0E, 0x20
REFRESH_MS = 3_600_000  # what hardly changes is read again after that: FRUs, network settings
MAX_RECORDS, MAX_SENSORS, MAX_FRUS = 2048, 1024, 64
MAX_EVENTS = 256  # of one poll
CHUNKS = (64, 32, 16, 8)  # bytes of a record or a FRU at once; BMCs say in several ways that it was too much
LAST, FIRST = 0xFFFF, 0x0000
RESTORE = {0: "always-off", 1: "previous", 2: "always-on"}
FAULTS = {1: "power overload", 2: "interlock", 3: "power", 4: "power control"}
MORE_FAULTS = {2: "drive", 3: "fan"}


class Known(msgspec.Struct, kw_only=True, array_like=True):
    """What one poll leaves for the next."""

    sdr: bytes = b""  # the repository's state, as it is said
    sensors: list[Sensor] = []
    locators: list[FruLocator] = []
    frus: list[Fru] = []
    mac: str = ""
    guid: bytes = b""
    version: str = ""
    read_ms: int = 0  # FRUs and what stands above them
    sel: SelInfo | None = None
    last: bytes = b""  # the newest record of the event log that was seen


_KNOWN = msgspec.msgpack.Decoder(Known)


def work(message: bytes) -> bytes:
    """A job's answer; raises DeviceError."""
    job = JOB.decode(message)
    with session(job) as bmc:
        if job.verb == "poll":
            answer = poll(bmc, job)
        elif job.verb == "sel":
            answer = Answer(events=list(whole_log(bmc, job.now_ms)))
        else:
            answer = ipmi_command.run(bmc, job.verb, job.argument)
    return msgspec.msgpack.encode(answer)


def poll(bmc: Session, job: Job) -> Answer:
    """Everything; what the BMC does not do is left out. Raises DeviceError."""
    known = _KNOWN.decode(job.known) if job.known else Known()
    fact = Bmc(address=job.address)
    read_identity(bmc, fact)
    if job.now_ms - known.read_ms > REFRESH_MS or known.version != fact.version:
        known = msgspec.structs.replace(known, sdr=b"", version=fact.version, read_ms=job.now_ms)
        read_slow(bmc, known)
    fact.mac, fact.guid, fact.system_uuid = known.mac, known.guid.hex(), system_uuid(known.guid)
    fact.system_serial = next((fru.product_serial for fru in known.frus if fru.key == "fru0"), "")
    parse_chassis(bmc.ask(CHASSIS, 0x01) or b"", fact)
    read_records(bmc, known)
    facts: list[Fact] = [fact, *known.frus]
    samples: list[Sample] = []
    for reading, value in read_sensors(bmc, known.sensors):
        facts.append(reading)
        metric = METRICS.get(reading.unit)
        samples += [Sample(f"ipmi.{metric}", reading.key, value)] if metric and value is not None else []
    events = list(read_log(bmc, known, fact, job.now_ms))
    samples += log_samples(known.sel)
    watts = parse_watts(bmc.ask(DCMI, 0x02, 0xDC, 1, 0, 0) or b"")
    samples += [] if watts is None else [Sample("ipmi.system_watts", fact.key, watts)]
    return Answer(facts=facts, samples=samples, events=events, known=msgspec.msgpack.encode(known))


# -- who it is ---------------------------------------------------------------------------------------------------------


def read_identity(bmc: Session, fact: Bmc) -> None:
    """Get Device ID; raises DeviceError when even that is refused."""
    data = bmc.ask(APP, 0x01)
    if data is None or len(data) < 11:
        raise DeviceError("no proper answer to Get Device ID")
    fact.version = f"{data[2] & 0x7F}.{data[3]:02x}"
    fact.ipmi_version = f"{data[4] & 15}.{data[4] >> 4}"
    fact.manufacturer_id = int.from_bytes(data[6:9], "little") & 0xFFFFF
    fact.manufacturer = MANUFACTURERS.get(fact.manufacturer_id, "")
    fact.product_id = int.from_bytes(data[9:11], "little")


def read_slow(bmc: Session, known: Known) -> None:
    """What hardly changes."""
    known.guid = parse_guid(bmc.ask(APP, 0x37) or b"")
    mac = (bmc.ask(TRANSPORT, 0x02, THIS_CHANNEL, 5, 0, 0) or b"")[1:7]
    known.mac = mac.hex(":") if len(mac) == 6 and any(mac) else ""
    read_records(bmc, known)
    locators = {0: FruLocator(0, "Builtin FRU")} | {each.number: each for each in known.locators}
    known.frus = [fru for each in list(locators.values())[:MAX_FRUS] if (fru := read_fru(bmc, each))]


def parse_guid(data: bytes) -> bytes:
    """Get System GUID; all zeros and all ones are none."""
    guid = data[:16]
    return guid if len(guid) == 16 and guid.strip(b"\0") and guid.strip(b"\xff") else b""


def system_uuid(guid: bytes) -> str:
    """The SMBIOS UUID behind a system GUID: as SMBIOS has it, as RFC 9562, backwards as IPMI 2.0 says; the first of
    them that is of a known version."""
    if len(guid) != 16:
        return ""
    spellings = (UUID(bytes_le=guid), UUID(bytes=guid), UUID(bytes=guid[::-1]))
    return str(next((each for each in spellings if each.version in range(1, 9)), spellings[0]))


def parse_chassis(data: bytes, fact: Bmc) -> None:
    """Get Chassis Status: power, faults, intrusion, identify."""
    if len(data) < 3:
        return
    power, _, other = data[:3]
    fact.power = "on" if power & 1 else "off"
    fact.restore = RESTORE.get(power >> 5 & 3, "")
    fact.faults = [word for bit, word in FAULTS.items() if power >> bit & 1]
    fact.faults += [word for bit, word in MORE_FAULTS.items() if other >> bit & 1]
    fact.intrusion = bool(other & 1)
    if other & 0x40:
        fact.identify = ("off", "temporary", "on", "")[other >> 4 & 3]


def parse_watts(data: bytes) -> int | None:
    """DCMI's Get Power Reading: what the system takes now; None when it is not measured."""
    if len(data) < 18 or data[0] != 0xDC or not data[17] & 0x40:
        return None
    return int.from_bytes(data[1:3], "little") or None


# -- records, readings, FRUs -------------------------------------------------------------------------------------------


def read_records(bmc: Session, known: Known, *, limits: bool = True) -> None:
    """The sensors and FRUs of the SDR repository, again when it says that it changed."""
    state = (bmc.ask(STORAGE, 0x20) or b"not said")[:13]
    if state == known.sdr:
        return
    sensors: dict[str, Sensor] = {}
    locators: list[FruLocator] = []
    for record in walk_records(bmc):
        for each in ipmi_sdr.parse_record(record):
            if isinstance(each, FruLocator):
                locators.append(each)
            elif len(sensors) < MAX_SENSORS:
                sensors.setdefault(each.key, each)
    for sensor in sensors.values() if limits else ():
        read_limits(bmc, sensor)
    known.sdr, known.sensors, known.locators = state, list(sensors.values()), locators


def walk_records(bmc: Session) -> Iterator[bytes]:
    """Every record of the repository, by their own order; a chain that turns back on itself ends."""
    number, seen = FIRST, set[int]()
    while number != LAST and number not in seen and len(seen) < MAX_RECORDS:
        seen.add(number)
        number, record = read_record(bmc, number)
        if record:
            yield record


def read_record(bmc: Session, number: int) -> tuple[int, bytes]:
    """The number of the next record, and this one; (LAST, b"") when the BMC does not give it."""
    wanted = number.to_bytes(2, "little")
    whole = bmc.ask(STORAGE, 0x23, 0, 0, *wanted, 0, 0xFF)
    if whole is not None and len(whole) >= 7 and len(whole) >= whole[6] + 7:
        return int.from_bytes(whole[:2], "little"), whole[2:]

    def part(offset: int, size: int) -> bytes | None:
        reservation = bmc.ask(STORAGE, 0x22) or b"\0\0"
        return bmc.ask(STORAGE, 0x23, *reservation[:2], *wanted, offset, size)

    head = part(0, 5)
    if head is None or len(head) < 7:
        return LAST, b""
    body = in_chunks(head[6], lambda offset, size: (part(5 + offset, size) or b"")[2:])
    return int.from_bytes(head[:2], "little"), head[2:7] + body


def in_chunks(size: int, read: Callable[[int, int], bytes]) -> bytes:
    """`size` bytes by pieces as large as the BMC gives; fewer where it gives no more."""
    found = b""
    chunks = list(CHUNKS)
    while len(found) < size and chunks:
        wanted = min(chunks[0], size - len(found))
        piece = read(len(found), wanted)[:wanted]
        if not piece:
            chunks.pop(0)
        found += piece
    return found


def read_limits(bmc: Session, sensor: Sensor) -> None:
    """The thresholds as they are set now, where they can be read one by one."""
    if not sensor.limits or sensor.direct or sensor.owner != BMC_ADDRESS:
        return
    data = bmc.ask(SENSOR, 0x27, sensor.number, lun=sensor.lun)
    if data is not None and len(data) >= 7:
        sensor.limits = ipmi_sdr.parse_limits(sensor, data[0], dict(enumerate(data[1:7])))


def read_sensors(bmc: Session, sensors: list[Sensor]) -> Iterator[tuple[BmcSensor, float | None]]:
    """Every sensor that has readings, absent ones too."""
    for sensor in sensors:
        if sensor.format == ipmi_sdr.NO_READING:
            continue
        if sensor.owner != BMC_ADDRESS:  # another controller's: a number of the BMC's own would be read in its place
            yield ipmi_sdr.describe(sensor), None
            continue
        data = bmc.ask(SENSOR, 0x2D, sensor.number, lun=sensor.lun) or b""
        if sensor.direct and len(data) >= 2:
            factors = bmc.ask(SENSOR, 0x23, sensor.number, data[0], lun=sensor.lun) or b""
            sensor.formula = ipmi_sdr.parse_formula(factors[1:7]) if len(factors) >= 7 else sensor.formula
        value, fact = ipmi_sdr.parse_reading(sensor, data)
        yield fact, value


def read_fru(bmc: Session, locator: FruLocator) -> Fru | None:
    """None for one that is not there."""
    info = bmc.ask(STORAGE, 0x10, locator.number)
    if info is None or len(info) < 3:
        return None
    words = info[2] & 1  # addressed by words: the offset counts those

    def read(offset: int, size: int) -> bytes:
        at = (offset >> words).to_bytes(2, "little")
        return (bmc.ask(STORAGE, 0x11, locator.number, *at, max(size >> words, 1)) or b"")[1:]

    fru = Fru(key=f"fru{locator.number}", name=locator.name)
    image = in_chunks(min(int.from_bytes(info[:2], "little"), 4096), read)
    ipmi_fru.parse_fru(image, fru)
    return fru if image else None


# -- the event log -----------------------------------------------------------------------------------------------------


def read_log(bmc: Session, known: Known, fact: Bmc, now_ms: int) -> Iterator[Event]:
    """The entries since the last poll; none at a first poll, which only looks where the log ends."""
    info = ipmi_sel.parse_info(bmc.ask(STORAGE, 0x40) or b"")
    before, known.sel = known.sel, info
    if info is None:
        return
    fact.sel_overflow, fact.sel_added = info.overflow, ipmi_sel.shown_time(info.added)
    if before is None:
        known.last = read_entry(bmc, LAST)[1]
        return
    if info == before:
        return
    if info.erased != before.erased and info.entries < before.entries:
        yield Event(
            at_ms=0, kind="sel.cleared", key="bmc", text=f"the BMC's event log was cleared, {before.entries} were in it"
        )
    clock = read_clock(bmc, now_ms)
    sensors = {sensor.key: sensor for sensor in known.sensors}
    fresh = list(new_entries(bmc, known.last))
    if fresh:
        known.last = fresh[-1]
    if len(fresh) > MAX_EVENTS:
        text = f"{len(fresh)} new entries in the BMC's event log, the oldest {len(fresh) - MAX_EVENTS} are not repeated"
        yield Event(at_ms=0, kind="sel.flood", key="bmc", severity=Severity.WARNING, text=text)
    for record in fresh[-MAX_EVENTS:]:
        event = ipmi_sel.parse_entry(record, sensors, clock)
        if event:
            yield event


def whole_log(bmc: Session, now_ms: int) -> Iterator[Event]:
    """Every entry there is."""
    known = Known()
    read_records(bmc, known, limits=False)
    sensors = {sensor.key: sensor for sensor in known.sensors}
    clock = read_clock(bmc, now_ms)
    for record in new_entries(bmc, b""):
        event = ipmi_sel.parse_entry(record, sensors, clock)
        if event:
            yield event


def read_clock(bmc: Session, now_ms: int) -> Clock:
    """The BMC's clock beside ours."""
    return Clock(int.from_bytes((bmc.ask(STORAGE, 0x48) or bytes(4))[:4], "little"), now_ms)


def new_entries(bmc: Session, last: bytes) -> Iterator[bytes]:
    """The records after `last`; all of them when that is no longer the record of its number."""
    number, record = read_entry(bmc, int.from_bytes(last[:2], "little")) if last else (FIRST, b"")
    if record != last:
        number = FIRST
    seen = set[int]()
    while number != LAST and number not in seen and len(seen) < 1 << 16:
        seen.add(number)
        number, record = read_entry(bmc, number)
        if record:
            yield record


def read_entry(bmc: Session, number: int) -> tuple[int, bytes]:
    """The number of the next record, and this one; (LAST, b"") when there is none."""
    data = bmc.ask(STORAGE, 0x43, 0, 0, *number.to_bytes(2, "little"), 0, 0xFF)
    if data is None or len(data) < 2 + ipmi_sel.RECORD_SIZE:
        return LAST, b""
    return int.from_bytes(data[:2], "little"), data[2 : 2 + ipmi_sel.RECORD_SIZE]


def log_samples(info: SelInfo | None) -> Iterator[Sample]:
    """How full it is."""
    if info is not None:
        yield Sample("ipmi.sel_entries", "bmc", info.entries)
        if info.free_bytes is not None:
            yield Sample("ipmi.sel_free_bytes", "bmc", info.free_bytes)
