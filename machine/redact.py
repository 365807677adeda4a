"""Takes out of a recorded machine what names it and its addresses, in the same way wherever it stands."""

import os
import re
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from machine import (
    MachineError,
    NotPresentError,
    Reply,
    devlink,
    eeprom_public,
    ipmi,
    linkinfo,
    lldp_public,
    nla,
    nvme,
    pciconfig,
    smartctl,
    smbios,
)
from machine.disguise import Disguise
from machine.tape import Body, Call, Tape

_SECRET_FILES = re.compile(
    r".*/(product_serial|board_serial|chassis_serial|\w*asset_tag|product_uuid|serial|serial_number|unique_id|uuid"
    r"|machine-id|boot_id|hostname|domainname|wwid|wwn|nguid|eui|node_guid|sys_image_guid|node_desc|phys_switch_id"
    r"|phys_port_id|subsysnqn|hostnqn|hostid|sas_address|mfr_serial)"
)
_LEFT_OUT = re.compile(
    r"/sys/firmware/dmi/tables/.*|.*/vpd[^/]*|.*/eeprom|.*/config|.*/system-connections/[^/]+|.*/libvirt/qemu/[^/]+"
)  # bytes that may hold serial numbers, profiles that may hold passwords
_VERSIONS = re.compile(r".*/[^/]*(version|firmware|bios|modalias)[^/]*")  # four numbers there are no address
_PLACEHOLDERS = re.compile(
    r"(?i)none|n/?a|null|unknown|not specified|not present|localhost|\(none\)|default string|to be filled.*"
    r"|system serial number|.*asset.?tag.*|[0 .x:-]+|0?123456789|1234567890"
)
_PAIRS = re.compile(r"(?i)(?<![0-9a-f:-])[0-9a-f]{2}([:-])[0-9a-f]{2}(?:\1[0-9a-f]{2}){4,18}(?![0-9a-f:-])")
_UUID = re.compile(r"(?i)(?<![0-9a-f-])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9a-f-])")
_PUBLIC = ("8be4df61-93ca-11d2-aa0d-00e098032b8c",)  # EFI's own variables
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)")
_IPV6 = re.compile(r"(?<![\w.:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:]|\.\d)")
_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_MIN_SECRET = 4
_COMMON_ZEROS = 4  # a MAC with so many of them looks like numbers, it is changed only where it must be a MAC
_EDGES = " \t\r\n\0"


class _Where(NamedTuple):
    """Where an rtnetlink message holds addresses: after so many bytes, in these attributes."""

    size: int
    ips: tuple[int, ...] = ()
    macs: tuple[int, ...] = ()
    hops: bool = False


_NEWLINK = 16  # RTM_NEWLINK
_LINK = _Where(16, macs=(1, 2, 34, 36, 54))  # IFLA_ADDRESS, BROADCAST, PHYS_PORT_ID, PHYS_SWITCH_ID, PERM_ADDRESS
_ROUTE = _Where(12, ips=(1, 2, 5, 7), hops=True)  # RTA_DST, SRC, GATEWAY, PREFSRC
_NEIGHBOUR = _Where(12, ips=(1,), macs=(2,))  # NDA_DST, NDA_LLADDR
_HOP = _Where(8, ips=_ROUTE.ips, hops=True)
_ADDRESSED = {
    _NEWLINK: _LINK,
    20: _Where(8, ips=(1, 2, 4, 5, 7)),  # RTM_NEWADDR: IFA_ADDRESS, LOCAL, BROADCAST, ANYCAST, MULTICAST
    24: _ROUTE,  # RTM_NEWROUTE
    26: _ROUTE,  # RTM_GETROUTE
    28: _NEIGHBOUR,  # RTM_NEWNEIGH
    30: _NEIGHBOUR,  # RTM_GETNEIGH
}
_MULTIPATH, _VIA = 9, 18


def redact(tape: Tape, salt: bytes = b"") -> Tape:
    """The tape with stand-ins for MACs, serial numbers, UUIDs, host names and IP addresses; opaque files go,
    of an SMBIOS table memory, fans and power supplies stay."""
    redaction = _Redaction(tape, Disguise(salt or os.urandom(16)))
    return {redaction.call(call): redaction.body(call, tape[call]) for call in tape}


class _Redaction:
    def __init__(self, tape: Tape, disguise: Disguise) -> None:
        self.disguise = disguise
        self.macs = {mac for mac in _macs(tape) if mac != disguise.mac(mac)}
        words = sorted(set(_words(tape)), key=len, reverse=True)
        self.spoken = _any_of(words, "[A-Za-z0-9]")
        self.spoken_bytes = re.compile(self.spoken.pattern.encode())
        self.bare = _any_of([mac.hex() for mac in self.macs], "[0-9a-fA-F]")

    def call(self, call: Call) -> Call:
        if call[0] == "rtnl" and _HEX.fullmatch(call[3]):
            return (*call[:3], self.rtnl(int(call[1]), bytes.fromhex(call[3])).hex())
        if call[0] in ("genl", "ioctl"):
            return (*call[:-1], self.binary(bytes.fromhex(call[-1])).hex() if _HEX.fullmatch(call[-1]) else call[-1])
        return tuple(self.names(part) for part in call)

    def body(self, call: Call, body: Body) -> Body:
        if isinstance(body, MachineError):
            again = type(body)(self.text(str(body)))
            again.code = body.code
            return again
        if isinstance(body, list) and eeprom_public.is_read(call):
            body = eeprom_public.replies(call, body, self.disguise.word)
        if isinstance(body, list):
            return [Reply(reply.kind, self.reply(call[:2], reply)) for reply in body]
        if call[0] == "ioctl":
            body = eeprom_public.flat(call, body, self.disguise.word)
        if call[0] == "ipmi":
            return ipmi.redact(call, body, self.disguise)
        if call[0] == "nvme":
            return nvme.public(body, int(call[2]), self.disguise.word)
        if call[:2] == ("command", "smartctl"):
            body = smartctl.public(body.decode(errors="replace"), self.disguise.word).encode()
        if call[:2] == ("command", "lldpcli"):
            body = lldp_public.answer(body.decode(errors="replace"), self.disguise).encode()
        if call[0] == "file" and _LEFT_OUT.fullmatch(call[1]):
            return self.opaque(call[1], body)
        return self.content(call, body)

    def reply(self, protocol: tuple[str, ...], reply: Reply) -> bytes:
        """One of several replies."""
        if protocol[0] == "lldp":
            return lldp_public.frame(reply.payload, self.disguise)
        if protocol == ("genl", devlink.FAMILY):
            return self.binary(devlink.public(reply.payload, self.disguise.word))
        return self.rtnl(reply.kind, reply.payload) if protocol[0] == "rtnl" else self.binary(reply.payload)

    def opaque(self, path: str, body: bytes) -> Body:
        """The devices of an SMBIOS table, a PCI function's registers; nothing of other files and of a damaged table."""
        if path.endswith("/config"):
            return pciconfig.without_serial(body)
        left_out = NotPresentError(f"{path}: left out of a redacted capture")
        if path != smbios.TABLE:
            return left_out
        try:
            return smbios.devices_only(body, self.disguise.word)
        except MachineError:
            return left_out

    def content(self, call: Call, body: bytes) -> bytes:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return self.binary(body)
        path = call[1] if call[0] == "file" else ""
        if _SECRET_FILES.fullmatch(path) and len(text.strip(_EDGES)) < _MIN_SECRET:
            return self.disguise.word(text).encode()
        return (self.names(text) if _VERSIONS.fullmatch(path) else self.text(text)).encode()

    def text(self, text: str) -> str:
        """Every kind of secret."""
        text = _IPV6.sub(lambda match: self.disguise.ip_text(match[0]), self.names(text))
        return _IPV4.sub(lambda match: self.disguise.ip_text(match[0]), text)

    def names(self, text: str) -> str:
        """All but IP addresses."""
        text = self.spoken.sub(lambda match: self.spelled(match[0]), text)
        text = _UUID.sub(lambda match: match[0] if match[0] in _PUBLIC else self.disguise.word(match[0]), text)
        text = _PAIRS.sub(lambda match: self.mac_text(match[0], match[1]), text)
        return self.bare.sub(lambda match: self.mac_text(match[0], ""), text)

    def mac_text(self, text: str, between: str) -> str:
        changed = self.disguise.mac(bytes.fromhex(text.replace(between, "") if between else text))
        spelled = changed.hex(between) if between else changed.hex()
        return spelled if text == text.lower() else spelled.upper()

    def binary(self, payload: bytes) -> bytes:
        for mac in self.macs:
            if mac.count(0) < _COMMON_ZEROS:
                payload = payload.replace(mac, self.disguise.mac(mac))
        return self.spoken_bytes.sub(lambda match: self.spelled(match[0].decode()).encode(), payload)

    def spelled(self, word: str) -> str:
        """Part by part, so that a host is the same with and without its domain."""
        return ".".join(self.disguise.word(part) for part in word.split("."))

    def rtnl(self, kind: int, payload: bytes) -> bytes:
        where = _ADDRESSED.get(kind)
        return self.attributes(payload, where) if where else self.binary(payload)

    def attributes(self, payload: bytes, where: _Where) -> bytes:
        pairs = nla.items(payload, where.size)
        return payload[: where.size] + b"".join(nla.attr(kind, self.value(kind, value, where)) for kind, value in pairs)

    def value(self, kind: int, value: bytes, where: _Where) -> bytes:
        if kind in where.macs:
            return self.disguise.mac(value)
        if kind in where.ips:
            return self.packed(value)
        if where.hops and kind == _VIA:
            return value[:2] + self.packed(value[2:])
        if where.hops and kind == _MULTIPATH:
            return b"".join(self.attributes(hop, _HOP) for hop in _hops(value))
        return self.binary(value)

    def packed(self, address: bytes) -> bytes:
        change = {4: self.disguise.ipv4, 16: self.disguise.ipv6}.get(len(address))
        return change(address) if change else address


def _hops(nested: bytes) -> Iterator[bytes]:
    while len(nested) >= 8:
        (size,) = struct.unpack_from("=H", nested)
        if size < 8:
            raise MachineError(f"next hop of {size} bytes is too short")
        yield nested[:size]
        nested = nested[(size + 3) & ~3 :]


def _any_of(words: Iterable[str], letters: str) -> re.Pattern[str]:
    """A pattern for the words that stand free of such letters; for no words one that matches nothing."""
    choices = "|".join(re.escape(word) for word in words) or "(?!)"
    return re.compile(f"(?i)(?<!{letters})(?:{choices})(?!{letters})")


def _macs(tape: Tape) -> Iterator[bytes]:
    """Hardware addresses of links and neighbours, and those that texts spell out."""
    for call, body in tape.items():
        if isinstance(body, bytes):
            pairs: Iterator[re.Match[str]] = _PAIRS.finditer(body.decode(errors="replace"))
            yield from (bytes.fromhex(match[0].replace(match[1], "")) for match in pairs)
        elif isinstance(body, list) and call[0] == "rtnl":
            for reply in body:
                where = _ADDRESSED.get(reply.kind, _Where(len(reply.payload)))
                found = nla.items(reply.payload, where.size)
                yield from (value for kind, value in found if kind in where.macs and len(value) >= 6)
                yield from linkinfo.hidden_macs(reply.payload) if reply.kind == _NEWLINK else ()


def _words(tape: Tape) -> Iterator[str]:
    """The contents of files that name the machine; of a host name its first part too."""
    for call, body in tape.items():
        if call[0] == "file" and isinstance(body, bytes) and _SECRET_FILES.fullmatch(call[1]):
            text = body.decode(errors="replace").strip(_EDGES)
            parts = {text, text.split(".")[0]} if call[1].endswith("name") else {text}
            yield from (part for part in parts if len(part) >= _MIN_SECRET and not _PLACEHOLDERS.fullmatch(part))
