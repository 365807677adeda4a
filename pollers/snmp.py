"""SNMP v2c and v3: column walks of one device by its profiles, within bounds whatever it answers.

gufo_snmp does the talking (20 times as fast as pysnmp), one session a poll, one question at a time: a device that is
slow is asked less, never more. A walk that does not advance, does not end or is no SNMP is one error of one line.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from gufo.snmp import (
    Aes128Key,
    Aes192Key,
    Aes256Key,
    DesKey,
    Md5Key,
    NoSuchInstance,
    Sha1Key,
    Sha224Key,
    Sha256Key,
    Sha384Key,
    Sha512Key,
    SnmpAuthError,
    SnmpError,
    User,
)
from gufo.snmp.aio import SnmpSession

from pollers import lldp_mib
from pollers.meaning import Columns, Index, Meaning, Measured, Value, Word, device, mean, number
from pollers.profile import SYSTEM, Plan, Question, choose
from pollers.target import DeviceError, Polled, Secret, Target
from wire.facts import Device, Entity, Fact
from wire.report import Sample
from wire.text import clean

PORT = 161
TIMEOUT_S = 4.0  # of one request
TRIES = 3  # UDP loses packets
BULK = (25, 10, 2)  # repetitions per try: gufo takes answers of 4080 bytes, and some agents cannot answer many
OIDS_OF_GET = 16
MOST_ROWS = 20_000  # of one column: two chassis full of ports
MOST_VALUES = 200_000  # of one poll
ABSENT_S = 300.0  # a column without rows is not asked for again so long: most of what profiles know is not there

DESCRIPTION, OBJECT_ID, UPTIME, CONTACT, NAME, LOCATION, SERVICES = (f"{SYSTEM}.{number}.0" for number in range(1, 8))
AUTH = {
    "md5": Md5Key,
    "sha": Sha1Key,
    "sha1": Sha1Key,
    "sha224": Sha224Key,
    "sha256": Sha256Key,
    "sha384": Sha384Key,
    "sha512": Sha512Key,
}
PRIVACY = {"des": DesKey, "aes": Aes128Key, "aes128": Aes128Key, "aes192": Aes192Key, "aes256": Aes256Key}
T = TypeVar("T")


class Absent:
    """Columns and objects that were not there, by device and sysObjectID."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._known: dict[tuple[str, str, int, str], tuple[float, set[str]]] = {}

    def of(self, target: Target, object_id: str) -> set[str]:
        """What this device did not have a short while ago; what is added to it is remembered."""
        name = (target.name, target.address, target.port, object_id)
        since, columns = self._known.get(name, (float("-inf"), set[str]()))
        if self._now() - since >= ABSENT_S:
            self._known[name] = (self._now(), columns := set())
        return columns


ABSENT = Absent()


class Examined(NamedTuple):
    """One poll with the instance every number and word was read from."""

    device: Device
    facts: list[Fact]
    measured: list[Measured]
    words: list[Word]


async def poll(target: Target, secret: Secret) -> Polled:
    """Everything the device says now; raises DeviceError, within the target's deadline."""
    found = await examine(target, secret)
    samples = [Sample(metric, key, value) for _, metric, key, value in found.measured]
    return Polled([found.device, *found.facts], samples, [])


async def examine(target: Target, secret: Secret) -> Examined:
    """As `poll`, with the source of every value."""
    try:
        async with asyncio.timeout(target.deadline_s):
            return await _examine(target, secret)
    except TimeoutError:
        raise DeviceError(f"not done within {target.deadline_s:g} s") from None
    except (OSError, ValueError) as error:
        raise DeviceError(clean(str(error)) or type(error).__name__) from None


def user(secret: Secret) -> User:
    """Who asks, over SNMP v3; raises DeviceError for a protocol that does not exist."""
    auth = _protocol("auth", secret.auth or "sha", AUTH) if secret.auth_password else None
    privacy = _protocol("privacy", secret.privacy or "aes128", PRIVACY) if secret.privacy_password else None
    if privacy and not auth:
        raise DeviceError("SNMP v3: privacy needs an auth_password too")
    return User(
        secret.username,
        auth_key=auth(secret.auth_password.encode()) if auth else None,
        priv_key=privacy(secret.privacy_password.encode()) if privacy else None,
    )


def _protocol(what: str, name: str, known: dict[str, T]) -> T:
    spelled = name.lower().replace("-", "")
    if spelled not in known:
        raise DeviceError(f"SNMP v3: no {what} protocol {clean(name, 20)!r}; there are: {', '.join(known)}")
    return known[spelled]


class Session:
    """One conversation; every answer is counted against the bounds. Raises DeviceError, TimeoutError."""

    def __init__(self, session: SnmpSession, where: str) -> None:
        self._session = session
        self._where = where
        self._values = 0
        self._absent: set[str] = set()

    def leave_out(self, absent: set[str]) -> None:
        """Do not ask for these columns; those found empty are added."""
        self._absent = absent

    @classmethod
    async def open(cls, target: Target, secret: Secret) -> "Session":
        """With the names resolved and, for v3, the engine found; raises DeviceError, OSError."""
        where = f"{target.address}:{target.port or PORT}"
        address = await _resolve(target.address)
        who: dict[str, Any] = {"community": secret.community or "public"}
        if secret.username:
            who = {"user": user(secret)}
        timeout_s = max(0.2, min(TIMEOUT_S, target.deadline_s / (2 * TRIES)))
        made = cls(SnmpSession(address, port=target.port or PORT, timeout=timeout_s, **who), where)
        if secret.username:
            await made.greet()
        return made

    async def greet(self) -> None:
        """Learn the engine and its clock (v3)."""

        async def ask(_repetitions: int) -> None:
            await self._session.refresh()

        await self._tried(ask)

    def engine_id(self) -> str:
        """In hexadecimal; "" for v2c."""
        try:
            return self._session.get_engine_id().hex()
        except NotImplementedError:
            return ""

    async def get(self, oids: list[str]) -> dict[str, Value]:
        """Objects by their OID with instance; those it does not have are not there."""
        wanted = [oid for oid in oids if oid not in self._absent]
        found: dict[str, Value] = {}
        for at in range(0, len(wanted), OIDS_OF_GET):
            found |= await self._some(wanted[at : at + OIDS_OF_GET])
        self._count(len(found))
        self._absent.update(oid for oid in wanted if oid not in found)
        return {oid: value for oid, value in found.items() if value is not None}

    async def _some(self, oids: list[str]) -> dict[str, Value]:
        """These objects; when there is nothing of them, by halves: gufo takes an error (tooBig, genErr) for nothing."""

        async def ask(_repetitions: int) -> dict[str, Value]:
            try:
                return await self._session.get_many(oids)
            except NoSuchInstance:
                return {}

        found = await self._tried(ask)
        if not found and len(oids) > 1:
            half = len(oids) // 2
            found = await self._some(oids[:half]) | await self._some(oids[half:])
        return found

    async def column(self, oid: str) -> dict[Index, Value]:
        """A column by index."""
        if oid in self._absent:
            return {}
        found = await self._tried(lambda repetitions: self._walk(oid, repetitions))
        if not found and oid != lldp_mib.GATE:  # a neighbour may come at any time
            self._absent.add(oid)
        return found

    async def _walk(self, oid: str, repetitions: int) -> dict[Index, Value]:
        rows: dict[Index, Value] = {}
        last: Index = ()
        skip, seen = len(oid) + 1, 0
        async for name, value in self._session.getbulk(oid, repetitions):
            index = tuple(map(int, name[skip:].split(".")))
            if index <= last:
                raise DeviceError(f"a walk of {oid} does not advance: {name[:120]}")
            if value is not None:
                rows[index] = value
            last, seen = index, seen + 1
            if seen > MOST_ROWS:
                raise DeviceError(f"a walk of {oid} does not end: {MOST_ROWS} rows")
        self._count(len(rows))
        return rows

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > MOST_VALUES:
            raise DeviceError(f"more than {MOST_VALUES} values in one poll")

    async def _tried(self, ask: Callable[[int], Awaitable[T]]) -> T:
        """What `ask` gives, with as many tries as there are; whatever goes wrong becomes one line."""
        error = ""
        for repetitions in BULK[:TRIES]:
            try:
                return await ask(repetitions)
            except TimeoutError:
                error = f"no answer from {self._where}: down, out of reach, or the community or user is unknown"
            except SnmpAuthError:
                raise DeviceError(
                    "SNMP v3: refused: the user, its keys or its protocols are not the device's"
                ) from None
            except (SnmpError, ValueError, RuntimeError) as said:
                error = f"no SNMP answer from {self._where}: {type(said).__name__} {clean(str(said), 80)}".rstrip()
            except BaseException as said:
                if type(said).__name__ != "PanicException":  # of gufo's Rust: no Exception, and no module to import
                    raise
                raise DeviceError(f"no SNMP answer from {self._where}: more or other than gufo_snmp can read") from None
        raise DeviceError(error)


async def _resolve(address: str) -> str:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(address, None, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise DeviceError(f"{clean(address, 80)}: {error.strerror or error}") from None
    return str(found[0][4][0])


async def _examine(target: Target, secret: Secret) -> Examined:
    session = await Session.open(target, secret)
    system = await session.get([DESCRIPTION, OBJECT_ID, UPTIME, CONTACT, NAME, LOCATION, SERVICES])
    object_id = _oid(system.get(OBJECT_ID))
    plan = choose(object_id)
    session.leave_out(ABSENT.of(target, object_id))
    columns = await _ask(session, plan)
    meaning = mean(plan, columns)
    neighbours = lldp_mib.read(await _columns(session, lldp_mib.COLUMNS, [lldp_mib.GATE]), columns)
    fact = _device(plan, system, columns, meaning)
    fact.object_id, fact.engine_id = object_id, session.engine_id()
    uptime = number(system.get(UPTIME))
    if uptime is not None:
        meaning.measured.append(Measured(UPTIME, "snmp.uptime_seconds", "", uptime / 100))
    return Examined(fact, [*meaning.facts, *neighbours], meaning.measured, meaning.words)


async def _ask(session: Session, plan: Plan) -> Columns:
    """Every column and object of the plan."""
    columns: dict[str, dict[Index, Value]] = {}
    objects: dict[str, None] = {}
    for field in (field for several in plan.device.values() for field in several):
        if field.oid.endswith(".0"):
            objects[field.oid] = None
        elif field.oid and field.oid not in columns:
            columns[field.oid] = await session.column(field.oid)
    for question in plan.tables:
        objects |= dict.fromkeys(oid for oid in _oids(question) if oid.endswith(".0"))
        wanted = [oid for oid in _oids(question) if oid not in columns and not oid.endswith(".0")]
        if question.scalar:
            objects |= dict.fromkeys(f"{oid}.0" for oid in wanted)
        else:
            columns |= await _columns(session, wanted, question.gates())
    for oid, value in (await session.get(list(objects))).items():
        columns[oid] = {(): value}
        columns[oid.removesuffix(".0")] = {(0,): value}
    return columns


async def _columns(session: Session, oids: list[str], gates: list[str]) -> dict[str, dict[Index, Value]]:
    """Those of a table; when its gates are all empty the others are not asked for."""
    found = {oid: await session.column(oid) for oid in gates if oid in oids}
    if found and not any(found.values()) and all(oid in found for oid in gates):
        return found
    for oid in oids:
        if oid not in found:
            found[oid] = await session.column(oid)
    return found


def _oids(question: Question) -> list[str]:
    """Every column a table's rows are made of, once."""
    oids: dict[str, None] = {}
    for reading in (one for several in question.samples.values() for one in several):
        oids |= dict.fromkeys([reading.oid, reading.decimals, reading.exponent, reading.type])
        oids |= dict.fromkeys([reading.when.oid] if reading.when else [])
    oids |= dict.fromkeys(field.oid for several in question.fields.values() for field in several)
    oids |= dict.fromkeys([question.when.oid] if question.when else [])
    return [oid for oid in oids if oid]


def _device(plan: Plan, system: dict[str, Value], columns: Columns, meaning: Meaning) -> Device:
    """The device itself; what its profile does not say, its chassis may (ENTITY-MIB)."""
    said = device(plan, columns)
    chassis = next(
        (one for one in meaning.facts if isinstance(one, Entity) and one.type == "chassis" and one.serial), None
    )
    if chassis:
        own = {"vendor": plan.vendor or chassis.vendor, "model": chassis.model, "serial": chassis.serial}
        said = {**own, "hardware": chassis.hardware, "firmware": chassis.firmware or chassis.software} | said
    texts = {"description": DESCRIPTION, "contact": CONTACT, "name": NAME, "location": LOCATION}
    found = {name: _line(system.get(oid)) for name, oid in texts.items()}
    category = plan.category or _category(system, meaning)
    return Device(category=category, profile=plan.name, **{"vendor": plan.vendor, **found, **said})


def _category(system: dict[str, Value], meaning: Meaning) -> str:
    """Of a device that no profile knows: by what it has, then by sysServices (layer 2 is a bridge)."""
    kinds = {str(fact.__struct_config__.tag) for fact in meaning.facts}
    if "ups" in kinds:
        return "ups"
    services = number(system.get(SERVICES))
    return "switch" if services is not None and int(services) & 2 else "device"


def _line(value: Value) -> str:
    return clean(value) if isinstance(value, bytes | str) else ""


def _oid(value: Value) -> str:
    """sysObjectID, also of a device that sends it as text; "" for what is none."""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    text = text.strip().removeprefix(".")
    return text[:200] if text.replace(".", "").isdecimal() else ""
