"""A machine on file: `Recording` writes down what is asked of a machine, `Captured` answers from that."""

import functools
import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import msgspec

from machine import Machine, MachineError, NotPresentError, Reply, UnsupportedError, ethtool_patch
from machine.irqbalance import ban_request, parse_setup
from machine.redact import redact as redacted
from machine.tape import Body, Call, Tape, format_tape, fresh, parse_tape
from wire.policy import Request

_STRIPPED = " \t\r\n\0"
_FOLLOWERS = {"smp_affinity_list": "effective_affinity_list"}  # what the kernel changes along with a file


def _netlink_call(protocol: tuple[str, ...], payload: bytes, *, dump: bool) -> Call:
    return (*protocol, "dump" if dump else "get", payload.hex() or "-")


def _lldp_call(ifindexes: Collection[int]) -> Call:
    return ("lldp", ",".join(map(str, sorted(ifindexes))) or "-")


class Recording:
    """Passes every call on to `machine` and keeps the last reply, errors too."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.tape: Tape = {}

    def dump(self, *, redact: bool = True) -> str:
        """The capture's text; redacted it names no MAC, serial number, UUID, host name or IP address of the machine."""
        return format_tape(_without_others_ids(redacted(self.tape) if redact else self.tape))

    def _keep(self, call: Call, ask: Callable[[], Any], body: Callable[[Any], Body]) -> Any:
        try:
            reply = ask()
        except MachineError as error:
            self.tape[call] = fresh(error)
            raise
        self.tape[call] = body(reply)
        return reply

    def read(self, path: str) -> str:
        """As `Machine.read`."""
        return self.read_bytes(path).decode(errors="replace").strip(_STRIPPED)

    def read_bytes(self, path: str) -> bytes:
        """As `Machine.read_bytes`."""
        content: bytes = self._keep(("file", path), lambda: self.machine.read_bytes(path), bytes)
        return content

    def names(self, path: str) -> list[str]:
        """As `Machine.names`."""
        found: list[str] = self._keep(("names", path), lambda: self.machine.names(path), _lines)
        return found

    def target(self, path: str) -> str:
        """As `Machine.target`."""
        says: str = self._keep(("link", path), lambda: self.machine.target(path), str.encode)
        return says

    def resolve(self, path: str) -> str:
        """As `Machine.resolve`."""
        real: str = self._keep(("path", path), lambda: self.machine.resolve(path), str.encode)
        return real

    def rtnl(self, kind: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        """As `Machine.rtnl`."""
        call = _netlink_call(("rtnl", str(kind)), payload, dump=dump)
        replies: list[Reply] = self._keep(call, lambda: self.machine.rtnl(kind, payload, dump=dump), list)
        return replies

    def genl(self, family: str, command: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        """As `Machine.genl`."""
        call = _netlink_call(("genl", family, str(command)), payload, dump=dump)
        replies: list[Reply] = self._keep(call, lambda: self.machine.genl(family, command, payload, dump=dump), list)
        return replies

    def ethtool_ioctl(self, ifname: str, request: bytes, size: int) -> bytes:
        """As `Machine.ethtool_ioctl`."""
        call = ("ioctl", ifname, str(size), request.hex())
        reply: bytes = self._keep(call, lambda: self.machine.ethtool_ioctl(ifname, request, size), _without_padding)
        return reply

    def hwtstamp(self, ifname: str) -> bytes:
        """As `Machine.hwtstamp`."""
        reply: bytes = self._keep(("hwtstamp", ifname), lambda: self.machine.hwtstamp(ifname), bytes)
        return reply

    def ipmi(self, netfn: int, command: int, data: bytes = b"") -> bytes:
        """As `Machine.ipmi`."""
        reply: bytes = self._keep(_ipmi(netfn, command, data), lambda: self.machine.ipmi(netfn, command, data), bytes)
        return reply

    def nvme_admin(self, device: str, opcode: int, nsid: int, cdw10: int, size: int) -> bytes:
        """As `Machine.nvme_admin`."""
        call = ("nvme", device, str(opcode), str(nsid), str(cdw10), str(size))
        ask = functools.partial(self.machine.nvme_admin, device, opcode, nsid, cdw10, size)
        reply: bytes = self._keep(call, ask, _without_padding)
        return reply

    def lldp_frames(self, ifindexes: Collection[int]) -> list[Reply]:
        """As `Machine.lldp_frames`."""
        frames: list[Reply] = self._keep(_lldp_call(ifindexes), lambda: self.machine.lldp_frames(ifindexes), list)
        return frames

    def psutil(self, function: str) -> Any:
        """As `Machine.psutil`."""
        return self._keep(("psutil", function), lambda: self.machine.psutil(function), _json)

    def timex(self) -> dict[str, int]:
        """As `Machine.timex`."""
        kept: dict[str, int] = self._keep(("timex", "read"), self.machine.timex, _json)
        return kept

    def xdp(self, program: int) -> dict[str, Any]:
        """As `Machine.xdp`."""
        said: dict[str, Any] = self._keep(("xdp", str(program)), lambda: self.machine.xdp(program), _json)
        return said

    def irqbalance(self, request: str) -> str:
        """As `Machine.irqbalance`."""
        answer: str = self._keep(("irqbalance", request), lambda: self.machine.irqbalance(request), str.encode)
        return answer

    def command(self, name: str, *words: str) -> str:
        """As `Machine.command`."""
        said: str = self._keep(("command", name, *words), lambda: self.machine.command(name, *words), str.encode)
        return said


class Captured:
    """A recorded machine from a capture's text or its path; what was not recorded is not present.

    It is a Writer as well: writes change what it answers from then on, in memory. Ethtool sets are refused as a driver
    would: above the limit, an unknown name, a fixed feature. Raises MachineError for a damaged capture.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        self.tape = parse_tape(source if isinstance(source, str) and "\n" in source else _load(source))

    def _body(self, call: Call) -> Body:
        body = self.tape.get(call)
        if body is None:
            raise NotPresentError(f"{' '.join(call)[:200]}: not in the capture")
        if isinstance(body, MachineError):
            raise fresh(body)
        return body

    def _bytes(self, *call: str) -> bytes:
        body = self._body(call)
        return body if isinstance(body, bytes) else b""

    def _replies(self, call: Call) -> list[Reply]:
        body = self._body(call)
        return list(body) if isinstance(body, list) else []

    def read(self, path: str) -> str:
        """As `Machine.read`."""
        return self.read_bytes(path).decode(errors="replace").strip(_STRIPPED)

    def read_bytes(self, path: str) -> bytes:
        """As `Machine.read_bytes`."""
        return self._bytes("file", path)

    def names(self, path: str) -> list[str]:
        """As `Machine.names`."""
        listed = self._bytes("names", path).decode()
        return listed.split("\n") if listed else []

    def target(self, path: str) -> str:
        """As `Machine.target`."""
        return self._bytes("link", path).decode()

    def resolve(self, path: str) -> str:
        """As `Machine.resolve`."""
        return self._bytes("path", path).decode()

    def rtnl(self, kind: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        """As `Machine.rtnl`."""
        return self._replies(_netlink_call(("rtnl", str(kind)), payload, dump=dump))

    def genl(self, family: str, command: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        """As `Machine.genl`."""
        return self._replies(_netlink_call(("genl", family, str(command)), payload, dump=dump))

    def ethtool_ioctl(self, ifname: str, request: bytes, size: int) -> bytes:
        """As `Machine.ethtool_ioctl`."""
        return self._bytes("ioctl", ifname, str(size), request.hex()).ljust(size, b"\0")

    def hwtstamp(self, ifname: str) -> bytes:
        """As `Machine.hwtstamp`."""
        return self._bytes("hwtstamp", ifname)

    def ipmi(self, netfn: int, command: int, data: bytes = b"") -> bytes:
        """As `Machine.ipmi`."""
        return self._bytes(*_ipmi(netfn, command, data))

    def nvme_admin(self, device: str, opcode: int, nsid: int, cdw10: int, size: int) -> bytes:
        """As `Machine.nvme_admin`."""
        return self._bytes("nvme", device, str(opcode), str(nsid), str(cdw10), str(size)).ljust(size, b"\0")

    def lldp_frames(self, ifindexes: Collection[int]) -> list[Reply]:
        """As `Machine.lldp_frames`."""
        return self._replies(_lldp_call(ifindexes))

    def psutil(self, function: str) -> Any:
        """As `Machine.psutil`."""
        try:
            return json.loads(self._bytes("psutil", function))
        except ValueError as error:
            raise MachineError(f"capture of psutil {function}: {error}") from None

    def timex(self) -> dict[str, int]:
        """As `Machine.timex`."""
        try:
            return msgspec.json.decode(self._bytes("timex", "read"), type=dict[str, int])
        except msgspec.DecodeError as error:
            raise MachineError(f"capture of timex: {error}") from None

    def xdp(self, program: int) -> dict[str, Any]:
        """As `Machine.xdp`."""
        try:
            return msgspec.json.decode(self._bytes("xdp", str(program)), type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise MachineError(f"capture of xdp: {error}") from None

    def irqbalance(self, request: str) -> str:
        """As `Machine.irqbalance`."""
        return self._bytes("irqbalance", request).decode()

    def command(self, name: str, *words: str) -> str:
        """As `Machine.command`."""
        return self._bytes("command", name, *words).decode()

    def write(self, path: str, text: str) -> None:
        """Change a recorded file, in memory; raises NotPresentError when it was not recorded."""
        self._body(("file", path))
        folder, _, name = path.rpartition("/")
        for changed in (name, _FOLLOWERS.get(name, name)):
            if isinstance(self.tape.get(("file", f"{folder}/{changed}")), bytes):
                self.tape["file", f"{folder}/{changed}"] = text.encode()

    def request(self, op: Request) -> None:
        """Change the recorded replies of one NIC, in memory; queues and IRQs stay as they are. Raises MachineError."""
        ifindex, message = op.ifindex, op.message
        if message not in ethtool_patch.COMMANDS:
            raise MachineError(f"a capture takes no request {message!r}")
        changed: Tape = {}
        for call, body in self.tape.items():
            if call[:3] == ("genl", "ethtool", str(ethtool_patch.COMMANDS[message])) and isinstance(body, list):
                replies = [ethtool_patch.patch(reply, ifindex, message, op.after) for reply in body]
                if replies != body or any(ethtool_patch.is_about(reply, ifindex) for reply in body):
                    changed[call] = replies
        if not changed:
            raise UnsupportedError(f"set {message} of interface {ifindex}: not in the capture")
        self.tape.update(changed)

    def irqbalance_ban(self, irqs: list[int]) -> None:
        """Change the recorded set-up of irqbalance, in memory; raises NotPresentError when none ran."""
        ban_request(irqs)
        setup = parse_setup(self.irqbalance("setup"))
        banned = "".join(f"IRQ {irq} LOAD 0 DIFF 0 CLASS 0 " for irq in sorted(set(irqs)))
        self.tape["irqbalance", "setup"] = f"SLEEP {setup.sleep_s} {banned}BANNED {setup.banned_cpus}".encode()


def _ipmi(netfn: int, command: int, data: bytes) -> Call:
    return ("ipmi", f"{netfn:02x}", f"{command:02x}", data.hex() or "-")


def _load(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MachineError(f"capture {os.fspath(path)}: {error}") from None


def _lines(names: list[str]) -> bytes:
    return "\n".join(names).encode(errors="replace")


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _without_padding(reply: bytes) -> bytes:
    return reply.rstrip(b"\0")


def _without_others_ids(tape: Tape) -> Tape:
    """The tape with no more of pci.ids than the lines about devices that are on it: the whole is over a megabyte."""
    ids: dict[str, dict[str, str]] = {}
    for (kind, path), body in ((call[:2], body) for call, body in tape.items()):
        folder, _, name = path.rpartition("/")
        if kind == "file" and name in ("vendor", "device") and "/pci" in folder and isinstance(body, bytes):
            ids.setdefault(folder, {})[name] = body.decode(errors="replace").strip().removeprefix("0x")
    known = {(found.get("vendor", ""), found.get("device", "")) for found in ids.values()}
    return {
        call: pci_ids(body.decode(errors="replace"), known).encode()
        if call[0] == "file" and call[1].endswith("/pci.ids") and isinstance(body, bytes)
        else body
        for call, body in tape.items()
    }


def pci_ids(text: str, known: Collection[tuple[str, str]]) -> str:
    """The lines of pci.ids about these vendors and devices (hexadecimal ids), subsystems included."""
    vendors = {vendor for vendor, _ in known}
    kept: list[str] = []
    vendor, wanted = "", False
    for line in text.splitlines():
        if line.startswith("C "):
            break  # device classes
        if line.startswith("#"):
            continue
        if not line.startswith("\t"):
            vendor = line[:4]
            wanted = vendor in vendors
        elif not line.startswith("\t\t"):
            wanted = (vendor, line[1:5]) in known
        if wanted:
            kept.append(line)
    return "\n".join(kept) + "\n"
