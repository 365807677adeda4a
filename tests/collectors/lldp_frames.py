"""LLDP frames made byte by byte, and what a neighbour may say at most."""

import json
from typing import Any

import msgspec

from wire.codec import encode
from wire.facts import FACT, Lldp

HOSTILE = b"\x1b]0;owned\x07\x1b[2J\n\r=cmd|'/C calc'!A0\xe2\x80\xae\xff\xc2\x9b31m"
HEAD = bytes.fromhex("0180c200000e 525400aa0001 88cc")
CHASSIS, PORT, TTL = b"\x04\x52\x54\x00\xaa\x00\x01", b"\x05eth7", (120).to_bytes(2, "big")


def tlv(kind: int, value: bytes) -> bytes:
    return (kind << 9 | len(value)).to_bytes(2, "big") + value


def org(oui: str, subtype: int, value: bytes) -> bytes:
    return tlv(127, bytes.fromhex(oui) + bytes([subtype]) + value)


def frame(*more: bytes, chassis: bytes = CHASSIS, port: bytes = PORT, ttl: bytes = TTL) -> bytes:
    return HEAD + tlv(1, chassis) + tlv(2, port) + tlv(3, ttl) + b"".join(more) + b"\0\0"


def said(fact: Lldp) -> dict[str, Any]:
    """What it says, but for its defaults and who heard it."""
    fields = json.loads(encode(fact))
    return {name: value for name, value in fields.items() if name not in ("kind", "key", "source")}


def harmless(fact: Lldp) -> bool:
    """Printable, bounded, and the same after its journey."""
    encoded = encode(fact)
    assert FACT.decode(encoded) == fact
    assert len(encoded) < 64 * 1024
    texts = [text for value in msgspec.to_builtins(fact).values() for text in _texts(value)]
    return all(text.isprintable() and len(text) <= 255 for text in texts)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    return [value] if isinstance(value, str) else []
