"""Notifications (traps and informs, v2c and v3) of configured devices become events; pysnmp decodes them.

Whose address is no device's, and who says too much, is counted and dropped before anything is decoded: one flooding
device costs its own notifications and nothing else.
"""

import asyncio
import importlib
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pollers.profile import Profile, Trap, profiles
from pollers.target import DeviceError, Secret, Target
from wire.report import Event, Severity
from wire.text import clean

# pysnmp is untyped: its modules are taken for what they are
config: Any = importlib.import_module("pysnmp.entity.config")
engine: Any = importlib.import_module("pysnmp.entity.engine")
ntfrcv: Any = importlib.import_module("pysnmp.entity.rfc3413.ntfrcv")
rfc2576: Any = importlib.import_module("pysnmp.proto.proxy.rfc2576")
udp: Any = importlib.import_module("pysnmp.carrier.asyncio.dgram.udp")
udp6: Any = importlib.import_module("pysnmp.carrier.asyncio.dgram.udp6")
v2c: Any = importlib.import_module("pysnmp.proto.api.v2c")

TRAP_OID = "1.3.6.1.6.3.1.1.4.1.0"  # snmpTrapOID
UPTIME = "1.3.6.1.2.1.1.3.0"
MOST_VALUES = 16
MOST_TEXT = 200
SAY_EVERY_S = 600.0
RESOLVE_EVERY_S = 300.0
V3 = 3
AUTH = {
    "md5": config.USM_AUTH_HMAC96_MD5,
    "sha": config.USM_AUTH_HMAC96_SHA,
    "sha1": config.USM_AUTH_HMAC96_SHA,
    "sha224": config.USM_AUTH_HMAC128_SHA224,
    "sha256": config.USM_AUTH_HMAC192_SHA256,
    "sha384": config.USM_AUTH_HMAC256_SHA384,
    "sha512": config.USM_AUTH_HMAC384_SHA512,
}
PRIVACY = {
    "des": config.USM_PRIV_CBC56_DES,
    "aes": config.USM_PRIV_CFB128_AES,
    "aes128": config.USM_PRIV_CFB128_AES,
    "aes192": config.USM_PRIV_CFB192_AES_BLUMENTHAL,
    "aes256": config.USM_PRIV_CFB256_AES_BLUMENTHAL,
}

log = logging.getLogger("rackhand.traps")


class Heard(NamedTuple):
    """A notification whose sender has shown the credentials it came with."""

    address: str
    model: int  # 1 SNMP v1, 2 v2c, 3 v3
    name: str  # of the community's entry, or the user
    level: int  # 1 noAuthNoPriv, 2 authNoPriv, 3 authPriv
    engine_id: str  # in hexadecimal
    values: list[tuple[str, Any]]


class Budget:
    """So many in a minute, by name; `left_out` counts the others since the last that was let through."""

    def __init__(self, per_minute: float, now: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self.left_out: Counter[str] = Counter()
        self._now = now
        self._tokens: dict[str, tuple[float, float]] = {}

    def allows(self, name: str) -> bool:
        """Whether one more may pass now."""
        now = self._now()
        tokens, at = self._tokens.get(name, (self.per_minute, now))
        tokens = min(self.per_minute, tokens + (now - at) * self.per_minute / 60)
        allowed = tokens >= 1
        self._tokens[name] = (tokens - 1 if allowed else tokens, now)
        self.left_out[name] += not allowed
        return allowed

    def told(self, name: str) -> int:
        """How many were left out; the count begins anew."""
        return self.left_out.pop(name, 0)


class _Receiver(ntfrcv.NotificationReceiver):  # type: ignore[misc]
    """Keeps with what credentials a notification came; pysnmp's callback is not told."""

    def __init__(self, own: Any, heard: Callable[[Heard], bool]) -> None:
        super().__init__(own, _nobody)  # pyright: ignore[reportUnknownMemberType]
        self._heard = heard

    def process_pdu(self, snmpEngine: Any, model: Any, security: Any, name: Any, level: Any, *rest: Any) -> None:  # noqa: N803
        """Only what a configured device says with its own credentials is acknowledged and passed on."""
        context_engine, _, _, pdu, _, state = rest
        address = snmpEngine.message_dispatcher.get_transport_info(state)[1][0]
        pairs: Iterable[tuple[Any, Any]] = v2c.apiPDU.get_varbinds(pdu) if int(model) else _from_v1(pdu)
        values = [(str(oid), value) for oid, value in pairs]
        engine_id = bytes(context_engine).hex()
        if self._heard(Heard(str(address), int(security), str(name), int(level), engine_id, values)):
            super().process_pdu(snmpEngine, model, security, name, level, *rest)  # pyright: ignore[reportUnknownMemberType]


class Listener:
    """`told` gets the device's name and the event. `counts` says what was dropped, and why."""

    def __init__(
        self,
        devices: Mapping[str, tuple[Target, Secret]],
        per_minute: float,
        told: Callable[[str, Event], None],
        known: Iterable[Profile] | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.port = 0  # once it listens
        self._devices = {name: pair for name, pair in devices.items() if pair[0].protocol == "snmp"}
        self._told = told
        self._budget = Budget(per_minute)
        self._sources: dict[str, list[str]] = {}  # IP address -> devices
        self._engines: dict[str, str] = {}  # engine id -> device
        self._communities: dict[str, str] = {}  # pysnmp's entry -> community
        self._names: dict[str, Trap] = {}
        for profile in profiles() if known is None else known:
            self._names |= profile.traps
        self._engine = engine.SnmpEngine()
        self._said_s = time.monotonic()

    async def serve(self, address: str, port: int) -> None:
        """Listen until cancelled; raises OSError when the port cannot be had."""
        await self._resolve()
        self._add_credentials()
        domain, transport = self._transport(address)
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind((address, port))
            self.port = sock.getsockname()[1]
            config.add_transport(self._engine, domain, transport.open_server_mode(sock=sock))
            _Receiver(self._engine, self._take)
            while True:
                await asyncio.sleep(RESOLVE_EVERY_S)
                await self._resolve()
                self._say_counts()
        finally:
            self._engine.close_dispatcher()
            sock.close()

    def learn(self, name: str, engine_id: str) -> None:
        """The SNMP v3 engine of a device, as a poll found it: its traps are signed with keys made for it."""
        if not engine_id or self._engines.get(engine_id) == name or name not in self._devices:
            return
        self._engines[engine_id] = name
        try:
            self._add_user(self._devices[name][1], engine_id)
        except DeviceError as error:
            log.warning("%s: %s", name, error)

    def _transport(self, address: str) -> tuple[Any, Any]:
        counts, budget, sources = self.counts, self._budget, self._sources
        kind: Any = udp6.Udp6AsyncioTransport if ":" in address else udp.UdpAsyncioTransport
        domain = config.SNMP_UDP6_DOMAIN if ":" in address else config.SNMP_UDP_DOMAIN

        class Sieve(kind):  # type: ignore[misc]
            def datagram_received(self, datagram: bytes, transportAddress: Any) -> None:  # noqa: N803
                source = _plain(transportAddress[0])
                if source not in sources:
                    counts["unknown source"] += 1
                elif not budget.allows(source):
                    counts["too many"] += 1
                else:
                    counts["received"] += 1
                    super().datagram_received(datagram, transportAddress)  # pyright: ignore[reportUnknownMemberType]

        return domain, Sieve()

    async def _resolve(self) -> None:
        """Addresses of the devices, now and then anew."""
        found: dict[str, list[str]] = {}
        loop = asyncio.get_running_loop()
        for name, (target, _) in self._devices.items():
            try:
                infos = await loop.getaddrinfo(target.address, None, type=socket.SOCK_DGRAM)
            except (OSError, UnicodeError):
                continue  # its polls say so
            for info in infos:
                names = found.setdefault(_plain(str(info[4][0])), [])
                names += [name] if name not in names else []
        self._sources.clear()
        self._sources.update(found)

    def _add_credentials(self) -> None:
        for name, (_, secret) in self._devices.items():
            community = secret.community or "public"
            if secret.username:
                try:
                    self._add_user(secret, "")
                except DeviceError as error:
                    log.warning("%s: %s", name, error)
            elif community not in self._communities.values():
                entry = f"community{len(self._communities)}"
                self._communities[entry] = community
                config.add_v1_system(self._engine, entry, community)

    def _add_user(self, secret: Secret, engine_id: str) -> None:
        """For informs without an engine, for traps with the device's; raises DeviceError."""
        auth = (
            AUTH.get((secret.auth or "sha").lower().replace("-", "")) if secret.auth_password else config.USM_AUTH_NONE
        )
        privacy = config.USM_PRIV_NONE
        if secret.privacy_password:
            privacy = PRIVACY.get((secret.privacy or "aes128").lower().replace("-", ""))
        if auth is None or privacy is None:
            raise DeviceError("SNMP v3: no such auth or privacy protocol; its traps are not heard")
        where: dict[str, Any] = {"securityEngineId": v2c.OctetString(hexValue=engine_id)} if engine_id else {}
        keys = (auth, secret.auth_password or None, privacy, secret.privacy_password or None)
        config.add_v3_user(self._engine, secret.username, *keys, **where)

    def _take(self, heard: Heard) -> bool:
        """Whether it is a device's own, with its own credentials; its event is told."""
        name = self._whose(heard)
        if not name:
            self.counts["wrong credentials"] += 1
            return False
        self._told(name, self._event(heard))
        return True

    def _whose(self, heard: Heard) -> str:
        fitting = [name for name in self._sources.get(_plain(heard.address), []) if self._fits(heard, name)]
        own = self._engines.get(heard.engine_id, "")
        return own if own in fitting else next(iter(fitting), "")

    def _fits(self, heard: Heard, name: str) -> bool:
        secret = self._devices[name][1]
        if heard.model != V3:
            return not secret.username and self._communities.get(heard.name) == (secret.community or "public")
        level = 1 + bool(secret.auth_password) + bool(secret.auth_password and secret.privacy_password)
        return secret.username == heard.name and heard.level >= level

    def _event(self, heard: Heard) -> Event:
        values = dict(heard.values)
        oid = clean(str(values.get(TRAP_OID, "")), MOST_TEXT)
        known = self._names.get(oid)
        data: dict[str, str | int | float | bool | None] = {"oid": oid}
        plain = [(name, value) for name, value in heard.values if name not in (TRAP_OID, UPTIME)]
        data |= {name[-MOST_TEXT:]: _plain_value(value) for name, value in plain[:MOST_VALUES]}
        if len(plain) > MOST_VALUES:
            data["values_left_out"] = len(plain) - MOST_VALUES
        if left_out := self._budget.told(_plain(heard.address)):
            data["traps_left_out"] = left_out
        what = known.name if known else oid or "a notification without snmpTrapOID"
        severity = Severity(known.severity) if known else Severity.INFO
        said = ", ".join(str(_plain_value(value)) for _, value in plain[:3])
        text = clean(f"{what}: {said}" if said else what, MOST_TEXT)
        return Event(at_ms=time.time_ns() // 1_000_000, kind="snmp.trap", severity=severity, text=text, data=data)

    def _say_counts(self) -> None:
        """What was dropped, in the log, seldom."""
        dropped = {what: count for what, count in self.counts.items() if what != "received"}
        if dropped and time.monotonic() - self._said_s >= SAY_EVERY_S:
            self._said_s = time.monotonic()
            log.warning("traps dropped so far: %s", ", ".join(f"{count} {what}" for what, count in dropped.items()))


def _nobody(*_told: Any) -> None:
    """The callback of pysnmp's, which is not needed."""


def _plain(address: str) -> str:
    """Without a zone, and IPv4 as such."""
    return address.partition("%")[0].removeprefix("::ffff:")


def _plain_value(value: Any) -> str | int:
    """A number, or text made harmless."""
    try:
        return int(value)
    except (TypeError, ValueError):
        pass
    try:
        return clean(bytes(value), MOST_TEXT)
    except (TypeError, ValueError):
        return clean(str(value), MOST_TEXT)


def _from_v1(pdu: Any) -> Iterable[tuple[Any, Any]]:
    """A trap of SNMP v1 as one of v2."""
    return list(v2c.apiPDU.get_varbinds(rfc2576.v1_to_v2(pdu)))
