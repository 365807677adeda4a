"""What people do to a host's BMC from here: where it is, with which credentials, and a row of who did what."""

import asyncio
import getpass
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hwdb import store
from hwdb.db import open_engine, reading, rows, writing
from pollers import ipmi, redfish
from pollers.bmc_job import Answer
from pollers.credentials import CredentialsError, read_secrets
from pollers.target import Protocol, Secret, Target
from wire.codec import decode
from wire.facts import Bmc, Dmi

if TYPE_CHECKING:
    from hwdb.db import Conn

DEFAULT_SECRETS = Path("/etc/rackhand/secrets.toml")
DEFAULT_NAME = "bmc"  # of the credentials that every host has without its own
_BMC = msgspec.json.Decoder(Bmc)


class BmcError(Exception):
    """The BMC is not known; the message is one line."""


class Door(msgspec.Struct, kw_only=True):
    """A host's BMC, and how it is reached."""

    host_id: str
    hostname: str
    target: Target
    secret: Secret
    url: str


class Way(msgspec.Struct, kw_only=True):
    """What somebody says of it; "" and 0 where they say nothing."""

    address: str = ""
    port: int = 0
    protocol: Protocol = "ipmi"
    tls: str = "verify"
    secrets: Path = DEFAULT_SECRETS
    name: str = ""
    deadline_s: float = 30.0


def open_door(url: str, host: str, way: Way) -> Door:
    """Find a host's BMC; raises StoreError, BmcError, CredentialsError."""
    with reading(url) as conn:
        entry = store.entry(conn, store.resolve(conn, host))
        address = way.address or find_address(conn, entry.host_id)
    if not address:
        raise BmcError(f"where the BMC of {entry.hostname} is, nobody has said: --address")
    target = msgspec.convert(
        {
            "name": entry.hostname,
            "protocol": way.protocol,
            "address": address,
            "port": way.port,
            "tls": way.tls,
            "deadline_s": way.deadline_s,
        },
        Target,
    )
    return Door(
        host_id=entry.host_id, hostname=entry.hostname, target=target, secret=find_secret(way, entry.hostname), url=url
    )


def find_secret(way: Way, hostname: str) -> Secret:
    """The credentials of that name, else of the host's, else those for all; raises CredentialsError."""
    secrets = read_secrets(way.secrets)
    names = (way.name,) if way.name else (hostname, DEFAULT_NAME)
    for name in names:
        if name in secrets:
            return secrets[name]
    raise CredentialsError(f"{way.secrets}: no credentials named {' or '.join(names)}")


def find_address(conn: "Conn", host_id: str) -> str:
    """As the host's agent reads it, else as the poller of a BMC with the host's UUID has it; "" when nobody knows."""
    own = [fact for fact in store.facts(conn, host_id, "bmc") if isinstance(fact, Bmc) and fact.address]
    if own:
        return own[0].address
    uuids = {fact.uuid.lower() for fact in store.facts(conn, host_id, "dmi") if isinstance(fact, Dmi) and fact.uuid}
    sql = "SELECT data FROM component WHERE kind = 'bmc' AND removed_ms IS NULL AND host_id <> :host_id"
    others = [decode(_BMC, row[0].encode()) for row in rows(conn, sql, {"host_id": host_id})] if uuids else []
    return next((bmc.address for bmc in others if bmc.address and bmc.system_uuid.lower() in uuids), "")


def tell(door: Door, verb: str, argument: str = "") -> Answer:
    """Have the BMC do it and wait for that; raises DeviceError."""
    client = redfish if door.target.protocol == "redfish" else ipmi
    try:
        answer: Answer = asyncio.run(client.command(door.target, door.secret, verb, argument))
        return answer
    finally:
        client.BMCS.close()


def audit(door: Door, text: str, outcome: str, severity: str = "info") -> None:
    """Keep who did what, and what came of it, among the host's events."""
    data = {"by": actor(), "bmc": door.target.address, "outcome": outcome}
    sql = """INSERT INTO event (host_id, at_ms, kind, key, severity, text, data)
      VALUES (:host_id, :at_ms, 'bmc.command', 'bmc', :severity, :text, :data)"""
    row = {"host_id": door.host_id, "at_ms": time.time_ns() // 1_000_000, "severity": severity}
    row |= {"text": f"{data['by']}: {text}: {outcome}", "data": msgspec.json.encode(data).decode()}
    engine = open_engine(door.url)
    try:
        with writing(engine) as conn:
            rows(
                conn,
                sql,
                row | {"text": f"{data['by']}: {text}: {outcome}", "data": msgspec.json.encode(data).decode()},
            )
    finally:
        engine.dispose()


def actor() -> str:
    """Who is at the keyboard: with sudo the one who typed it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    before = os.environ.get("SUDO_USER", "")
    return f"{before} as {user}" if before and before != user else user
