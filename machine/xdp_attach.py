"""Puts our XDP programs on an interface, into the place of others of ours, and takes them off.

Never somebody else's program: the first attach is refused where one is, and a replacement says what it replaces.
Links and the slots of the chain live by names in bpffs, so they survive the short process that makes them.
"""

import contextlib
import ctypes
import errno
import os
import time
from collections.abc import Generator, Mapping
from pathlib import Path

from machine import (
    BusyError,
    DeniedError,
    Machine,
    MachineError,
    NotPresentError,
    UnsupportedError,
    bpf,
    failure,
    netdev,
    nla,
    rtnl,
    xdp,
    xdp_load,
    xdp_values,
)
from wire.policy import Request, Value
from wire.xdp import canonical

BPFFS = "/sys/fs/bpf"
FOLDER = f"{BPFFS}/rackhand"
CARRIER_S = 15.0
JUMBO = 3000  # bytes of MTU; above it a packet may be in several buffers
_SETLINK = 19
_FLAGS = {"native": 4, "generic": 2}
_IF_NOEXIST, _REPLACE = 1, 16
_XDP, _FD, _XDP_FLAGS, _EXPECTED = 43, 1, 3, 8


def write(machine: Machine, op: Request) -> None:
    """Bring what is ours on the interface to the request's `after`. Raises MachineError, whole or not at all."""
    try:
        wanted = canonical(op.after)
    except ValueError as error:
        raise MachineError(f"xdp: {error}") from None
    attached = xdp.read_attached_to(machine, op.ifindex)
    if attached.program and not xdp.is_ours(attached.program):
        said = xdp.describe(attached.program)
        if not wanted["programs"]:
            return
        raise MachineError(f"{op.ifname} has the program {said['name']} ({said['owner']}, id {attached.program})")
    if attached.program and (not wanted["programs"] or attached.mode != wanted["mode"]):
        detach(machine, op.ifindex, attached)
        attached = xdp.Attached()
    if wanted["programs"]:
        mount()
        _put(machine, op.ifindex, wanted, attached)
    sweep(machine)


def _put(machine: Machine, ifindex: int, wanted: Mapping[str, Value], attached: xdp.Attached) -> None:
    mode = str(wanted["mode"])
    with xdp_load.Loaded(_frags(machine, ifindex)) as made:
        if attached.program:
            with xdp.held(attached.program) as old:
                _take_over(made, old)
                root = made.build(wanted)
                _go_on(made, old)
                with _pinned(made, ifindex):
                    _replace(machine, ifindex, root, old.root, mode)
            return
        root = made.build(wanted)
        canary = made.load(xdp_load.CANARY)
        had_carrier = rtnl.read_link(machine, ifindex).carrier
        with _pinned(made, ifindex):
            attach(machine, ifindex, canary, mode)
            try:
                _check(machine, ifindex, bpf.program(canary).id, mode, carrier=had_carrier)
                _replace(machine, ifindex, root, canary, mode)
            except MachineError:
                with contextlib.suppress(MachineError):
                    detach(machine, ifindex, xdp.read_attached_to(machine, ifindex))
                raise


def _frags(machine: Machine, ifindex: int) -> int:
    """The flag that lets packets of several buffers through, where the MTU needs it and the driver has it."""
    if rtnl.read_link(machine, ifindex).mtu <= JUMBO:
        return 0
    try:
        return bpf.HAS_FRAGS if "rx-sg" in netdev.read_xdp_features(machine, ifindex) else 0
    except NotPresentError:
        return 0


def _take_over(made: xdp_load.Loaded, old: xdp.Held) -> None:
    """Counters, buckets and the list of management go on in the new set."""
    for name in xdp_load.KEPT:
        if name in old.maps:
            made.take(name, os.dup(old.maps[name]))


def _go_on(made: xdp_load.Loaded, old: xdp.Held) -> None:
    """The new set is as alive as the old one was: no moment without rules."""
    beat = xdp_values.number(xdp_values.BEAT)
    last = bpf.lookup(old.maps["rh_pulse"], beat, 8) if "rh_pulse" in old.maps else None
    bpf.update(made.map("rh_pulse"), beat, last or bytes(8))


# -- names in bpffs --


def mount() -> None:
    """See to it that bpffs is where everybody has it; raises UnsupportedError where that cannot be.

    Without a name the slots of a chain empty themselves when the process that filled them ends.
    """
    if not _is_bpffs():
        library = ctypes.CDLL(None, use_errno=True)
        if library.mount(b"bpf", BPFFS.encode(), b"bpf", 0, b"mode=0700"):
            raise UnsupportedError(f"{BPFFS} cannot be mounted: {os.strerror(ctypes.get_errno())}")
    try:
        Path(FOLDER).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise failure(error.errno or 0, FOLDER) from None


def _is_bpffs() -> bool:
    mounts = Path("/proc/thread-self/mounts").read_text().splitlines()
    return any(line.split()[1:3] == [BPFFS, "bpf"] for line in mounts)


def _space() -> int:
    """The network namespace's number: interfaces have numbers within it alone."""
    return Path("/proc/thread-self/ns/net").stat().st_ino


def _pins() -> list[tuple[str, str, int, int, int]]:
    """Path, kind, namespace, ifindex and id of every name of ours."""
    found: list[tuple[str, str, int, int, int]] = []
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(FOLDER)):  # noqa: PTH208 - bpffs
            kind, *numbers = name.split("-")
            if len(numbers) == 3 and all(map(str.isdigit, numbers)):
                space, ifindex, number = map(int, numbers)
                found.append((f"{FOLDER}/{name}", kind, space, ifindex, number))
    return found


def _pin(kind: str, handle: int, ifindex: int, number: int) -> str:
    path = f"{FOLDER}/{kind}-{_space()}-{ifindex}-{number}"
    bpf.pin(handle, path)
    return path


@contextlib.contextmanager
def _pinned(made: xdp_load.Loaded, ifindex: int) -> Generator[None]:
    """Names for the maps that must have one (slots; sockets, which programs of the host fill); gone on an error."""
    paths: list[str] = []
    try:
        for kind in ("slots", "sockets"):
            if (handle := made.maps.get(f"rh_{kind}")) is not None:
                path = _pin(kind, handle, ifindex, bpf.map_of(handle).id)
                paths.append(path)
        yield
    except BaseException:
        for path in paths:
            _unpin(path)
        raise


def _unpin(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108 - bpffs


def sweep(machine: Machine) -> None:
    """Remove the names of what is on no interface of this namespace any more."""
    live: dict[int, set[int]] = {}
    for ifindex, attached in xdp.read_attached(machine).items():
        if attached.program and xdp.is_ours(attached.program):
            with xdp.held(attached.program) as ours:
                live[ifindex] = set(ours.ids.values())
    for path, kind, space, ifindex, number in _pins():
        stale = number not in live.get(ifindex, set()) if kind != "link" else not _is_on(path)
        if space == _space() and stale:
            _unpin(path)


def _is_on(path: str) -> bool:
    try:
        handle = bpf.open_pin(path)
    except NotPresentError:
        return False
    try:
        return bpf.link(handle).ifindex != 0
    finally:
        os.close(handle)


@contextlib.contextmanager
def _link(ifindex: int) -> Generator[tuple[int, str] | None]:
    """The descriptor and name of our link on an interface, None where it is attached without one."""
    for path, kind, space, at, _ in _pins():
        if (kind, space, at) != ("link", _space(), ifindex) or not _is_on(path):
            continue
        handle = bpf.open_pin(path)
        try:
            yield handle, path
        finally:
            os.close(handle)
        return
    yield None


# -- the interface --


def attach(machine: Machine, ifindex: int, program: int, mode: str) -> None:
    """Put a program on an interface that has none, by a link, else by netlink, which has the driver's own words."""
    try:
        handle = bpf.create_link(program, ifindex, _FLAGS[mode])
    except BusyError as error:
        raise MachineError(f"another program came first, or the driver is busy: {error}") from None
    except MachineError:
        _set(machine, ifindex, program, _FLAGS[mode] | _IF_NOEXIST)
        return
    try:
        _pin("link", handle, ifindex, bpf.link(handle).id)
    finally:
        os.close(handle)  # without its name the link ends here


def _replace(machine: Machine, ifindex: int, new: int, old: int, mode: str) -> None:
    """One program for another at once; raises MachineError when `old` is no longer there."""
    with _link(ifindex) as ours:
        try:
            if ours is not None:
                bpf.update_link(ours[0], new, old)
            else:
                _set(machine, ifindex, new, _FLAGS[mode] | _REPLACE, old)
        except MachineError as error:
            if isinstance(error, DeniedError) or error.code in (errno.EEXIST, errno.ENOLINK):
                raise MachineError(f"another program took the place of ours meanwhile: {error}") from None
            raise


def detach(machine: Machine, ifindex: int, attached: xdp.Attached) -> None:
    """Take ours off an interface, and nobody else's. Raises MachineError."""
    with _link(ifindex) as ours:
        if ours is not None:
            bpf.detach_link(ours[0])
            _unpin(ours[1])
            return
    if attached.program and attached.mode in _FLAGS and xdp.is_ours(attached.program):
        handle = bpf.program_by_id(attached.program)
        try:
            _set(machine, ifindex, -1, _FLAGS[attached.mode] | _REPLACE, handle)
        finally:
            os.close(handle)


def _set(machine: Machine, ifindex: int, program: int, flags: int, expected: int | None = None) -> None:
    parts = [nla.attr(_FD, program.to_bytes(4, "little", signed=True)), nla.u32(_XDP_FLAGS, flags)]
    if expected is not None:
        parts.append(nla.u32(_EXPECTED, expected))
    machine.rtnl(_SETLINK, xdp.link_header(ifindex) + nla.nest(_XDP, *parts))


def _check(machine: Machine, ifindex: int, program: int, mode: str, *, carrier: bool) -> None:
    """The canary is there as asked, and the link came back from it; raises MachineError."""
    if (found := xdp.read_attached_to(machine, ifindex)) != xdp.Attached(program, mode):
        raise MachineError(
            f"asked for program {program} in {mode} mode, found {found.program} in {found.mode or 'none'}"
        )
    until = time.monotonic() + CARRIER_S
    while carrier and not rtnl.read_link(machine, ifindex).carrier:
        if time.monotonic() > until:
            raise MachineError(f"the link did not come back within {CARRIER_S:g} s of a program that passes everything")
        time.sleep(0.1)
