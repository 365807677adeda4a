"""The system call bpf(2) through ctypes: maps, programs, links and pins as descriptors; nothing of a toolchain.

Every call raises MachineError with the kernel's errno; a program that the verifier rejects raises it with the end of
the verifier's log.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import NamedTuple

from machine import DeniedError, MachineError, NotPresentError, UnsupportedError, failure

_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361}
_MAP_CREATE, _LOOKUP, _UPDATE, _DELETE, _NEXT_KEY, _PROG_LOAD, _PIN, _GET = range(8)
_TEST_RUN = 10
_PROG_NEXT_ID, _MAP_NEXT_ID, _PROG_BY_ID, _MAP_BY_ID, _INFO = 11, 12, 13, 14, 15
_LINK_CREATE, _LINK_UPDATE, _LINK_BY_ID, _LINK_NEXT_ID, _LINK_DETACH = 28, 29, 30, 31, 34
_TYPE_XDP, _ATTACH_XDP = 6, 37
_REPLACE = 4  # BPF_F_REPLACE
_LIVE_FRAMES, _LIVE_BATCH = 2, 256  # BPF_F_TEST_XDP_LIVE_FRAMES; frames at once
HAS_FRAGS = 32  # BPF_F_XDP_HAS_FRAGS
CPUMAP, PERCPU = 16, (5, 6, 10)
_LOG_BYTES = 1 << 20
_LOG_LINES, _LOG_CHARS = 6, 400
_PROG_INFO = struct.Struct("=II8s32xQII16s")  # up to name; the 4th field is load_time
_MAP_INFO = struct.Struct("=IIIIII16s")
_LINK_INFO = struct.Struct("=IIIxxxxI")
_LINK_XDP = 6


class Shape(NamedTuple):
    """What a map is made as; sizes in bytes."""

    type: int
    key: int
    value: int
    entries: int
    flags: int


class Program(NamedTuple):
    """A loaded program."""

    id: int
    type: int
    tag: str
    name: str
    maps: list[int]  # ids


class Map(NamedTuple):
    """A map that the kernel holds."""

    id: int
    type: int
    key: int  # bytes
    value: int  # bytes
    entries: int
    name: str


class Link(NamedTuple):
    """What holds an XDP program at an interface; ifindex 0: that interface is gone, or the link was taken off."""

    id: int
    program: int  # id
    ifindex: int


def _syscall() -> tuple[ctypes.CDLL, int]:
    number = _NUMBERS.get(platform.machine())
    if number is None or sys.byteorder != "little":
        raise UnsupportedError(f"bpf: our programs are not built for {platform.machine()}")
    return ctypes.CDLL(None, use_errno=True), number


def _call(command: int, attributes: bytes, what: str) -> tuple[int, bytes]:
    """The call's result, and the attributes as the kernel left them."""
    library, number = _syscall()
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = library.syscall(number, command, buffer, len(attributes))
    if result < 0:
        raise failure(ctypes.get_errno(), f"bpf: {what}")
    return result, buffer.raw


def _at(data: "ctypes.Array[ctypes.c_char] | None") -> int:
    return 0 if data is None else ctypes.addressof(data)


def _bytes(value: bytes) -> "ctypes.Array[ctypes.c_char]":
    return ctypes.create_string_buffer(value, max(1, len(value)))


def create_map(shape: Shape, name: str) -> int:
    """A new map's descriptor."""
    attributes = struct.pack("=IIIIIII16s", *shape, 0, 0, name.encode()[:15])
    return _call(_MAP_CREATE, attributes, f"map {name}")[0]


def update(handle: int, key: bytes, value: bytes) -> None:
    """Set one entry."""
    keys, values = _bytes(key), _bytes(value)
    _call(_UPDATE, struct.pack("=IIQQQ", handle, 0, _at(keys), _at(values), 0), "set a map's entry")


def delete(handle: int, key: bytes) -> None:
    """Take one entry out; it may be gone already."""
    keys = _bytes(key)
    try:
        _call(_DELETE, struct.pack("=IIQ", handle, 0, _at(keys)), "remove a map's entry")
    except NotPresentError:
        return


def lookup(handle: int, key: bytes, size: int) -> bytes | None:
    """The entry's `size` bytes (of a map per CPU: of all possible ones together), None when there is none."""
    keys, values = _bytes(key), _bytes(bytes(size))
    try:
        _call(_LOOKUP, struct.pack("=IIQQQ", handle, 0, _at(keys), _at(values), 0), "read a map's entry")
    except NotPresentError:
        return None
    return values.raw


def keys(handle: int, size: int) -> list[bytes]:
    """Every key of a map that nobody else changes meanwhile."""
    found: list[bytes] = []
    following = _bytes(bytes(size))
    while True:
        last = _bytes(found[-1]) if found else None
        try:
            _call(_NEXT_KEY, struct.pack("=IIQQ", handle, 0, _at(last), _at(following)), "list a map")
        except NotPresentError:
            return found
        found.append(following.raw[:size])


def load(code: bytes, name: str, licence: str, flags: int = 0) -> int:
    """A program's descriptor; raises MachineError with the verifier's last words when it is rejected."""
    text, words, log = _bytes(code), _bytes(licence.encode() + b"\0"), None
    for level in (0, 1):
        log = _bytes(bytes(_LOG_BYTES)) if level else None
        size = _LOG_BYTES if level else 0
        head = struct.pack("=IIQQIIQ", _TYPE_XDP, len(code) // 8, _at(text), _at(words), level, size, _at(log))
        try:
            return _call(_PROG_LOAD, head + struct.pack("=II16s", 0, flags, name.encode()[:15]), f"load {name}")[0]
        except DeniedError as error:
            if os.geteuid() != 0 or level:
                raise _rejected(name, error, log) from None
        except MachineError as error:
            if error.code not in (errno.EINVAL, errno.EACCES, errno.E2BIG) or level:
                raise _rejected(name, error, log) from None
    raise AssertionError("unreachable")


def _rejected(name: str, error: MachineError, log: "ctypes.Array[ctypes.c_char] | None") -> MachineError:
    said = shortened(log.value.decode(errors="replace")) if log is not None else ""
    if not said:
        return error
    made = MachineError(f"bpf: the verifier rejects {name}: {said}")
    made.code = error.code
    return made


def shortened(log: str) -> str:
    """The end of a verifier's log on one line, without its statistics."""
    lines = [line.strip() for line in log.splitlines()]
    told = [line for line in lines if line and not line.startswith(("processed ", "verification time", "stack depth"))]
    text = " | ".join(told[-_LOG_LINES:])
    return text if len(text) <= _LOG_CHARS else "... " + text[-_LOG_CHARS:]


def run(program: int, packet: bytes) -> tuple[int, bytes]:
    """What a program answers to one packet, and the packet afterwards (BPF_PROG_TEST_RUN)."""
    given, back = _bytes(packet), _bytes(bytes(len(packet) + 256))
    head = struct.pack("=IIIIQQII", program, 0, len(packet), len(back), _at(given), _at(back), 1, 0)
    _, after = _call(_TEST_RUN, head, "run a program")
    returned, size = struct.unpack_from("=I4xI", after, 4)
    return returned, back.raw[:size]


def run_live(program: int, frame: bytes, times: int) -> None:
    """Let a program redirect one frame so many times, as real packets (kernel 5.18)."""
    given = _bytes(frame)
    head = struct.pack("=IIIIQQIIIIQQ", program, 0, len(frame), 0, _at(given), 0, times, 0, 0, 0, 0, 0)
    _call(_TEST_RUN, head + struct.pack("=III4x", _LIVE_FRAMES, 0, _LIVE_BATCH), "send frames")


def pin(handle: int, path: str) -> None:
    """Keep a map or link by a name in bpffs; raises MachineError, EEXIST when the name is taken."""
    words = _bytes(path.encode() + b"\0")
    _call(_PIN, struct.pack("=QII", _at(words), handle, 0), f"pin {path}")


def open_pin(path: str) -> int:
    """The descriptor of what a name in bpffs keeps; raises NotPresentError."""
    words = _bytes(path.encode() + b"\0")
    return _call(_GET, struct.pack("=QII", _at(words), 0, 0), path)[0]


def _info(handle: int, size: int, head: bytes = b"") -> bytes:
    buffer = _bytes(head.ljust(size, b"\0"))
    _call(_INFO, struct.pack("=IIQ", handle, size, _at(buffer)), "ask for details")
    return buffer.raw


def program(handle: int) -> Program:
    """What the kernel says of a loaded program."""
    ids = _bytes(bytes(4 * 64))
    head = bytearray(80)
    struct.pack_into("=IIQ", head, 48, 0, 64, _at(ids))  # created_by_uid, nr_map_ids, map_ids
    raw = _info(handle, 80, bytes(head))
    kind, number, tag = struct.unpack_from("=II8s", raw)
    count = struct.unpack_from("=I", raw, 52)[0]
    name = raw[64:80].split(b"\0", 1)[0].decode(errors="replace")
    return Program(number, kind, tag.hex(), name, list(struct.unpack_from(f"={min(count, 64)}I", ids.raw)))


def map_of(handle: int) -> Map:
    """What the kernel says of a map."""
    kind, number, key, value, entries, _, name = _MAP_INFO.unpack_from(_info(handle, 40))
    return Map(number, kind, key, value, entries, name.split(b"\0", 1)[0].decode(errors="replace"))


def link(handle: int) -> Link:
    """What the kernel says of an XDP link; raises MachineError for a link of another kind."""
    kind, number, holds, ifindex = _LINK_INFO.unpack_from(_info(handle, 32))
    if kind != _LINK_XDP:
        raise MachineError(f"bpf: link {number} is none of XDP")
    return Link(number, holds, ifindex)


def program_by_id(number: int) -> int:
    """The descriptor of a loaded program; raises NotPresentError when it is gone, DeniedError without the right."""
    return _call(_PROG_BY_ID, struct.pack("=III", number, 0, 0), f"program {number}")[0]


def map_by_id(number: int) -> int:
    """The descriptor of a map; raises NotPresentError when it is gone, DeniedError without the right."""
    return _call(_MAP_BY_ID, struct.pack("=III", number, 0, 0), f"map {number}")[0]


def next_map(number: int) -> int | None:
    """The id of the next map after `number`, None after the last."""
    try:
        _, after = _call(_MAP_NEXT_ID, struct.pack("=III", number, 0, 0), "list maps")
    except NotPresentError:
        return None
    return int.from_bytes(after[4:8], sys.byteorder)


def create_link(handle: int, ifindex: int, flags: int) -> int:
    """Attach a program to an interface; BusyError when somebody's is there. The link ends with its last holder."""
    return _call(_LINK_CREATE, struct.pack("=IIII", handle, ifindex, _ATTACH_XDP, flags), "attach")[0]


def update_link(handle: int, new: int, old: int) -> None:
    """Put another program into a link at once, if `old` still is there; DeniedError when it is not."""
    _call(_LINK_UPDATE, struct.pack("=IIII", handle, new, _REPLACE, old), "replace")


def detach_link(handle: int) -> None:
    """Take a link's program off its interface, whoever else holds the link."""
    _call(_LINK_DETACH, struct.pack("=I", handle), "detach")
