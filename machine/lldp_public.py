"""LLDP without what names the network: the stand-ins of a redacted capture, in frames and in what lldpcli prints."""

import json
from typing import Any, cast

from machine import lldp
from machine.disguise import Disguise

_MAC, _ADDRESS = 4, 5  # chassis id subtypes; a port id's are one less
_NAME, _MANAGEMENT, _ORGANIZATION = 5, 8, 127
_NAMING = (b"\x00\x12\xbb\x08", b"\x00\x12\xbb\x0b")  # LLDP-MED: serial number, asset
_NAMING_KEYS = ("serial", "asset")


def frame(raw: bytes, disguise: Disguise) -> bytes:
    """The frame with stand-ins for MACs, names, addresses and serial numbers, without padding; port names stay."""
    tlvs = [(kind, _value(kind, value, disguise)) for kind, value in lldp.tlvs(raw)]
    packed = [(kind << 9 | len(value)).to_bytes(2, "big") + value for kind, value in tlvs]
    return raw[:6] + disguise.mac(raw[6:12]) + raw[12 : lldp.HEADER] + b"".join(packed) + b"\0\0"


def _value(kind: int, value: bytes, disguise: Disguise) -> bytes:
    if kind in (lldp.CHASSIS, lldp.PORT) and value:
        return value[:1] + _identifier(value[0] + (kind == lldp.PORT), value[1:], kind == lldp.CHASSIS, disguise)
    if kind == _NAME:
        return _word(value, disguise)
    if kind == _MANAGEMENT and 2 <= value[0] < len(value) if value else False:
        end = 1 + value[0]
        return value[:2] + _packed(value[2:end], disguise) + value[end:]
    if kind == _ORGANIZATION and value[:4] in _NAMING:
        return value[:4] + _word(value[4:], disguise)
    return value


def _identifier(subtype: int, value: bytes, naming: bool, disguise: Disguise) -> bytes:
    if subtype == _MAC:
        return disguise.mac(value)
    if subtype == _ADDRESS:
        return value[:1] + _packed(value[1:], disguise)
    return _word(value, disguise) if naming else value


def _packed(address: bytes, disguise: Disguise) -> bytes:
    change = {4: disguise.ipv4, 6: disguise.mac, 16: disguise.ipv6}.get(len(address))
    return change(address) if change else address


def _word(value: bytes, disguise: Disguise) -> bytes:
    """Part by part, so that a name is the same with and without its domain; bytes that are no text in hexadecimal."""
    try:
        return ".".join(disguise.word(part) for part in value.decode().split(".")).encode()
    except UnicodeDecodeError:
        return disguise.word(value.hex())[:255].encode()


def answer(text: str, disguise: Disguise) -> str:
    """What lldpcli prints as JSON with stand-ins for names and serial numbers; MACs and addresses are left as they
    are. Text that is no JSON goes.
    """
    try:
        said: Any = json.loads(text)
        _rename(said, "", disguise)
    except (ValueError, RecursionError):
        return ""
    return json.dumps(said, indent=1)


def _rename(said: Any, under: str, disguise: Disguise) -> None:
    if isinstance(said, list):
        for item in said:  # pyright: ignore[reportUnknownVariableType]
            _rename(item, under, disguise)
    elif isinstance(said, dict):
        held = cast("dict[str, Any]", said)
        naming = under in ("name", *_NAMING_KEYS) or (under == "chassis.id" and held.get("type") not in ("mac", "ip"))
        if naming and isinstance(held.get("value"), str):
            held["value"] = _word(held["value"].encode(), disguise).decode()
        for key, inner in held.items():
            _rename(inner, "chassis.id" if (under, key) == ("chassis", "id") else key, disguise)
