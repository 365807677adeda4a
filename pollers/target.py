"""A device that is polled over the network, and what one poll of it gives."""

from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

import msgspec

from wire.facts import Fact
from wire.report import Event, Sample

Protocol = Literal["snmp", "ipmi", "redfish"]


class DeviceError(Exception):
    """The device could not be polled; the message is one line and holds no credential."""


class Secret(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Credentials of one name in the secrets file; which fields count depends on the protocol. Never printed."""

    username: str = ""
    password: str = ""
    community: str = ""  # SNMP v2c
    auth: str = ""  # SNMP v3: "sha", "sha256", ...
    auth_password: str = ""
    privacy: str = ""  # SNMP v3: "aes128", ...
    privacy_password: str = ""

    def __repr__(self) -> str:
        """Its type alone."""
        return "Secret()"


class Target(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """One `[[device]]` of the poller's configuration."""

    name: str  # what people call it; unique
    protocol: Protocol
    address: str  # host name or IP address
    port: int = 0  # 0: the protocol's own
    secret: str = ""  # a name in the secrets file
    tls: Literal["verify", "insecure", "none"] = "verify"  # Redfish: certificate checked, not checked, plain HTTP
    every_s: float = 60.0
    deadline_s: float = 30.0  # of a whole poll
    labels: dict[str, str] = {}


class Polled(NamedTuple):
    """One poll. Facts are the whole truth about the device; keys are unique on it."""

    facts: list[Fact]
    samples: list[Sample]
    events: list[Event]


Poll = Callable[[Target, Secret], Awaitable[Polled]]  # raises DeviceError
