"""IEEE 802.1AB's words and the spelling of its identifiers, the same for frames, lldpd and LLDP-MIB."""

import ipaddress
from collections.abc import Mapping

from wire.text import clean

CHASSIS = {
    1: "component",
    2: "ifalias",
    3: "port-component",
    4: "mac",
    5: "ip",
    6: "ifname",
    7: "local",
}
PORT = {
    1: "ifalias",
    2: "port-component",
    3: "mac",
    4: "ip",
    5: "ifname",
    6: "circuit",
    7: "local",
}
CAPABILITIES = (  # by bit of TLV 7 and of lldpRemSysCapEnabled
    "other",
    "repeater",
    "bridge",
    "wlan",
    "router",
    "telephone",
    "docsis",
    "station",
    "cvlan",
    "svlan",
    "tpmr",
)
MAUS = {  # IANA-MAU-MIB dot3MauType
    **{5: "10BaseT", 10: "10BaseTHD", 11: "10BaseTFD", 15: "100BaseTXHD", 16: "100BaseTXFD", 17: "100BaseFXHD"},
    **{18: "100BaseFXFD", 21: "1000BaseXHD", 22: "1000BaseXFD", 23: "1000BaseLXHD", 24: "1000BaseLXFD"},
    **{25: "1000BaseSXHD", 26: "1000BaseSXFD", 27: "1000BaseCXHD", 28: "1000BaseCXFD", 29: "1000BaseTHD"},
    **{30: "1000BaseTFD", 31: "10GigBaseX", 33: "10GigBaseR", 34: "10GigBaseER", 35: "10GigBaseLR"},
    **{36: "10GigBaseSR", 41: "10GigBaseCX4", 54: "10GbaseT", 55: "10GbaseLRM", 56: "1000baseKX"},
    **{57: "10GbaseKX4", 58: "10GbaseKR"},
}
TSA = {0: "strict", 1: "shaper", 2: "ets", 255: "vendor"}  # IEEE 802.1Qaz transmission selection algorithms
_FAMILIES = {1: 4, 2: 16}  # IANA address family -> bytes of an address


def identity(words: Mapping[int, str], subtype: int, value: bytes) -> tuple[str, str]:
    """(subtype's word, identifier as text) of a chassis id (`CHASSIS`) or port id (`PORT`); an unknown subtype's
    number stands for its word. A MAC is `aa:bb:cc:dd:ee:ff`; binary that is no text stands in hexadecimal.
    """
    word = words.get(subtype, str(subtype))
    if word == "mac" and len(value) == 6:
        return word, value.hex(":")
    if word == "ip" and value:
        return word, address(value[0], value[1:]) or clean(value.hex())
    return word, _text(value)


def address(family: int, value: bytes) -> str:
    """A network address in its usual spelling by IANA family number; "" for a family that is not IP's."""
    return str(ipaddress.ip_address(value)) if _FAMILIES.get(family) == len(value) else ""


def capabilities(bits: int) -> list[str]:
    """The words for the bits that are set, sorted; bit 0 is `other`."""
    return sorted(word for bit, word in enumerate(CAPABILITIES) if bits >> bit & 1)


def _text(value: bytes) -> str:
    """Text, or hexadecimal where the bytes are none."""
    try:
        said = value.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return clean(value.hex())
    return clean(said) if said.isprintable() or any(letter.isalnum() for letter in said) else clean(value.hex())
