"""One poll of a BMC over Redfish, in the worker's child: systems, chassis, managers, event log, firmware."""

import hashlib
from collections.abc import Callable, Iterable, Iterator

import msgspec

from pollers import redfish_command, redfish_parse
from pollers.bmc_job import JOB, Answer, Job
from pollers.redfish_parse import ROOT, Document, Reading, at, documents, link, text
from pollers.redfish_session import Session, expandable
from wire.facts import Bmc, BmcFirmware, Fact, Fru
from wire.report import Event, Sample, Severity

REFRESH_MS = 3_600_000  # firmware is listed again after that
MAX_CHASSIS, MAX_SENSORS, MAX_FIRMWARE, MAX_PARTS = 16, 256, 128, 32
MAX_ENTRIES, MAX_PAGES, MAX_EVENTS = 4000, 8, 64
LOGS = ("sel", "iml", "eventlog", "log", "logs")  # Ids of what IPMI calls the SEL, the likeliest first


class Known(msgspec.Struct, kw_only=True, array_like=True):
    """What one poll leaves for the next. It holds the session's token: never printed."""

    token: str = ""
    session: str = ""
    firmware: list[BmcFirmware] = []
    read_ms: int = 0
    version: str = ""
    log: str = ""  # where its entries are, "-" when there is none
    entries: list[bytes] | None = None  # digests of those that were seen

    def __repr__(self) -> str:
        """Its type alone."""
        return "Known()"


_KNOWN = msgspec.msgpack.Decoder(Known)


def work(message: bytes) -> bytes:
    """A job's answer; raises DeviceError."""
    job = JOB.decode(message)
    known = _KNOWN.decode(job.known) if job.known else Known()
    service = Session(job, known.token, known.session)
    if job.verb == "poll":
        answer = poll(service, job, known)
        known.token, known.session = service.token, service.session
        answer.known = msgspec.msgpack.encode(known)
    else:
        try:
            answer = whole_log(service) if job.verb == "sel" else redfish_command.run(service, job.verb, job.argument)
        finally:
            service.close()
    return msgspec.msgpack.encode(answer)


def poll(service: Session, job: Job, known: Known) -> Answer:
    """Everything; what the service does not have is left out. Raises DeviceError."""
    root = service.must_get(f"{ROOT}/")
    tree = Tree(service, expand=expandable(root))
    systems = tree.members(link(root, "Systems") or f"{ROOT}/Systems")
    bmc = Bmc(address=job.address)
    if len(systems) == 1:  # of several none is the BMC's own
        redfish_parse.parse_system(systems[0][1], bmc)
    managers = tree.members(link(root, "Managers") or f"{ROOT}/Managers")
    read_managers(tree, managers, bmc)
    frus = [fru for path, document in systems if (fru := redfish_parse.parse_part(path, document))]
    readings: list[Reading] = []
    for path, document in tree.members(link(root, "Chassis") or f"{ROOT}/Chassis")[:MAX_CHASSIS]:
        bmc.intrusion = _either(bmc.intrusion, redfish_parse.parse_intrusion(document))
        frus += [fru] if (fru := redfish_parse.parse_part(path, document)) else []
        read_chassis(tree, document, readings, frus)
    if job.now_ms - known.read_ms > REFRESH_MS or known.version != bmc.version:
        known.firmware, known.read_ms, known.version = list(read_firmware(tree, root)), job.now_ms, bmc.version
        known.log = ""
    events = list(read_log(tree, [*managers, *systems], known))
    found = list(_unique([bmc, *frus, *(reading.sensor for reading in readings), *known.firmware]))
    kept = {id(fact) for fact in found}
    samples = [sample for one in readings if id(one.sensor) in kept for sample in one.samples()]
    return Answer(facts=found, samples=[*samples, *_system_watts(readings)], events=events)


class Tree:
    """Collections of a service with their members."""

    def __init__(self, service: Session, *, expand: bool) -> None:
        self.get = service.get
        self._expand = expand

    def members(self, path: str, most: int = MAX_SENSORS) -> list[tuple[str, Document]]:
        """Path and document of a collection's members, in one request where the service can."""
        collection = (self.get(f"{path}?$expand=.($levels=1)") if self._expand else None) or self.get(path)
        found: list[tuple[str, Document]] = []
        for item in documents(collection, "Members")[:most]:
            where = link({"": item}, "")
            whole = item if len(item) > 1 else self.get(where) if where else None
            found += [(where, whole)] if whole and where else []
        return found


def _either(one: bool | None, other: bool | None) -> bool | None:
    return other if one is None else one or bool(other)


def _unique(facts: Iterable[Fact]) -> Iterator[Fact]:
    """Of several with one key, the first."""
    seen = set[tuple[type, str]]()
    for fact in facts:
        if (type(fact), fact.key) not in seen:
            seen.add((type(fact), fact.key))
            yield fact


def _system_watts(readings: list[Reading]) -> Iterator[Sample]:
    """What the whole takes: the first that a chassis says of its consumption."""
    taken = (one.value for one in readings if "/PowerControl/" in one.sensor.key and one.value)
    yield from (Sample("redfish.system_watts", "bmc", watts) for watts in list(taken)[:1])


# -- parts -------------------------------------------------------------------------------------------------------------


def read_managers(tree: Tree, managers: list[tuple[str, Document]], bmc: Bmc) -> None:
    """The manager that is a BMC, and its network port."""
    kinds = ("bmc", "managementcontroller", "")
    chosen = [one for kind in kinds for one in managers if text(one[1], "ManagerType").lower() == kind] or managers
    if not chosen:
        return
    redfish_parse.parse_manager(chosen[0][1], bmc)
    for _, interface in tree.members(
        link(chosen[0][1], "EthernetInterfaces") or f"{chosen[0][0]}/EthernetInterfaces", 8
    ):
        if redfish_parse.parse_interface(interface, bmc):
            return


def read_chassis(tree: Tree, chassis: Document, readings: list[Reading], frus: list[Fru]) -> None:
    """Its sensors and power supplies, the older way where it has that, else the newer."""
    thermal, power = link(chassis, "Thermal"), link(chassis, "Power")
    if thermal and (document := tree.get(thermal)):
        readings += redfish_parse.parse_thermal(thermal, document)
    elif below := link(chassis, "ThermalSubsystem"):
        _read_thermal_subsystem(tree, below, readings)
    if power and (document := tree.get(power)):
        readings += redfish_parse.parse_power(power, document)
        frus += redfish_parse.parse_supplies(power, document)
    elif below := link(chassis, "PowerSubsystem"):
        _read_power_subsystem(tree, below, readings, frus)
    sensors = link(chassis, "Sensors")
    if sensors and not (thermal and power):
        _read_all(tree, sensors, redfish_parse.parse_sensor, readings)


def _read_all(
    tree: Tree, path: str, parse: Callable[[str, object], Iterable[Reading]], readings: list[Reading]
) -> None:
    for where, document in tree.members(path):
        readings += parse(where, document)


def _read_thermal_subsystem(tree: Tree, path: str, readings: list[Reading]) -> None:
    document = tree.get(path)
    if fans := link(document, "Fans"):
        _read_all(tree, fans, redfish_parse.parse_fan, readings)
    if metrics := link(document, "ThermalMetrics"):
        readings += redfish_parse.parse_thermal_metrics(metrics, tree.get(metrics))


def _read_power_subsystem(tree: Tree, path: str, readings: list[Reading], frus: list[Fru]) -> None:
    supplies = link(tree.get(path), "PowerSupplies")
    for where, supply in tree.members(supplies, MAX_PARTS) if supplies else []:
        frus += [fru] if (fru := redfish_parse.parse_part(where, supply)) else []
        if metrics := link(supply, "Metrics"):
            readings += redfish_parse.parse_supply_metrics(metrics, tree.get(metrics))


def read_firmware(tree: Tree, root: Document) -> Iterator[BmcFirmware]:
    """What the update service lists."""
    inventory = link(tree.get(link(root, "UpdateService") or f"{ROOT}/UpdateService"), "FirmwareInventory")
    for path, document in tree.members(inventory, MAX_FIRMWARE) if inventory else []:
        firmware = redfish_parse.parse_firmware(path, document)
        if firmware:
            yield firmware


# -- the event log -----------------------------------------------------------------------------------------------------


def read_log(tree: Tree, owners: list[tuple[str, Document]], known: Known) -> Iterator[Event]:
    """The entries since the last poll; none at a first poll, which only looks what there is."""
    known.log = known.log or find_log(tree, owners) or "-"
    if known.log == "-":
        return
    seen, first = set(known.entries or ()), known.entries is None
    entries = {digest(entry): entry for entry in read_entries(tree, known.log)}
    known.entries = list(entries)[:MAX_ENTRIES]
    fresh = [] if first else [entry for name, entry in entries.items() if name not in seen]
    fresh.sort(key=lambda entry: text(entry, "Created"))
    if len(fresh) > MAX_EVENTS:
        said = f"{len(fresh)} new entries in the BMC's event log, the oldest {len(fresh) - MAX_EVENTS} are not repeated"
        yield Event(at_ms=0, kind="sel.flood", key="bmc", severity=Severity.WARNING, text=said)
    for entry in fresh[-MAX_EVENTS:]:
        whole = entry if len(entry) > 1 else tree.get(link({"": entry}, "")) if link({"": entry}, "") else None
        yield redfish_parse.parse_entry(whole or entry)


def whole_log(service: Session) -> Answer:
    """Every entry there is."""
    root = service.must_get(f"{ROOT}/")
    tree = Tree(service, expand=expandable(root))
    owners = [one for name in ("Managers", "Systems") for one in tree.members(link(root, name) or f"{ROOT}/{name}", 8)]
    entries = read_entries(tree, find_log(tree, owners))
    return Answer(events=[redfish_parse.parse_entry(entry) for entry in entries if len(entry) > 1])


def find_log(tree: Tree, owners: list[tuple[str, Document]]) -> str:
    """The path of its entries: the first service that says it is a SEL, else the likeliest by its Id."""
    found: list[tuple[int, str]] = []
    for path, owner in owners:
        for where, service in tree.members(link(owner, "LogServices") or f"{path}/LogServices", 8):
            name = (text(service, "Id") or where.rpartition("/")[2]).lower()
            entries = link(service, "Entries") or f"{where}/Entries"
            if text(service, "LogEntryType").lower() == "sel":
                return entries
            found += [(LOGS.index(name), entries)] if name in LOGS else []
    return min(found, default=(0, ""))[1]


def read_entries(tree: Tree, path: str) -> Iterator[Document]:
    """The members of the log, page by page, as they stand there: whole, or references."""
    for _ in range(MAX_PAGES):
        page = tree.get(path) if path else None
        yield from documents(page, "Members")
        said = at(page, "Members@odata.nextLink")
        path = said if isinstance(said, str) and said.startswith("/redfish/") else ""


def digest(entry: Document) -> bytes:
    """What tells an entry from every other, one of before with the same number included."""
    parts = [str(at(entry, name) or "") for name in ("@odata.id", "Id", "Created", "Message")]
    return hashlib.blake2b("\0".join(parts).encode(errors="replace"), digest_size=8).digest()
