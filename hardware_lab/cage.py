"""Transceivers in a guest's interfaces: inserted, pulled, measured anew, corrupted and failing, through `lab_cage`."""

import shlex
from typing import NamedTuple

from hardware_lab.eeprom import BLOCK, Address, Module, Monitor, Space, corrupted, with_monitor
from hardware_lab.failure import LabError
from hardware_lab.guest import Guest

ROOT = "/sys/kernel/debug/lab_cage"
_ADDRESSES: tuple[Address, ...] = ("a0", "a2")


class Write(NamedTuple):
    """Bytes at an offset of a space."""

    address: Address
    offset: int
    data: bytes


def folder(ifname: str) -> str:
    """Where the files of an interface's cage lie, in the guest."""
    return f"{ROOT}/{ifname}"


def attach(guest: Guest, ifname: str) -> None:
    """Give the interface an empty cage, if it has none; raises GuestError."""
    there = shlex.quote(folder(ifname))
    guest.run(f"modprobe lab_cage && {{ [ -d {there} ] || echo {shlex.quote(ifname)} > {ROOT}/attach; }}")


def detach(guest: Guest, ifname: str) -> None:
    """Take the cage away again; raises GuestError when there is none."""
    guest.run(f"echo {shlex.quote(ifname)} > {ROOT}/detach")


def insert(guest: Guest, ifname: str, module: Module) -> None:
    """Put a module into the interface's cage, which it gets if it has none; raises GuestError."""
    attach(guest, ifname)
    writes = [write for address in _ADDRESSES for write in _runs(address, getattr(module, address))]
    forget = ["echo 0 > present", *(f": > {address}" for address in _ADDRESSES)]
    _write(guest, ifname, forget, writes, ["echo 1 > present"])


def pull(guest: Guest, ifname: str) -> None:
    """Take the module out: reads end with ENODEV."""
    guest.write(f"{folder(ifname)}/present", "0")


def read(guest: Guest, ifname: str) -> Module:
    """The module as it is now, without pages that are all zero; raises GuestError."""
    spaces = {address: _space(guest, f"{folder(ifname)}/{address}") for address in _ADDRESSES}
    return Module(**spaces)


def change(guest: Guest, ifname: str, before: Module, after: Module) -> None:
    """Write what differs between two images into the live module, each run of bytes in one write."""
    _write(guest, ifname, [], differences(before, after), [])


def set_monitor(guest: Guest, ifname: str, monitor: Monitor, value: float, lane: int = 0) -> None:
    """Let the live module measure this (°C, V, mA, mW; lanes from 0), its alarm flags too; raises LabError."""
    before = read(guest, ifname)
    change(guest, ifname, before, with_monitor(before, monitor, value, lane))


def corrupt(guest: Guest, ifname: str) -> None:
    """Invert bytes of the live module's identity, so that its checksum is wrong; again, and it is well."""
    before = read(guest, ifname)
    change(guest, ifname, before, corrupted(before))


def fail(guest: Guest, ifname: str, error: int, after: int = 0) -> None:
    """End reads with this errno, once `after` more have succeeded; 0 heals."""
    guest.run(f"cd {shlex.quote(folder(ifname))} && echo {after} > fail_after && echo {error} > fail")


def slow(guest: Guest, ifname: str, delay_ms: int) -> None:
    """Let every read of half a page take this long, at most 60000 ms; 0 heals."""
    guest.write(f"{folder(ifname)}/delay_ms", str(delay_ms))


def reads(guest: Guest, ifname: str) -> int:
    """How many half pages were asked for so far."""
    return int(guest.read(f"{folder(ifname)}/reads"))


def differences(before: Module, after: Module) -> list[Write]:
    """The runs of bytes that make `after` out of `before`; blocks are never taken away."""
    found: list[Write] = []
    for address in _ADDRESSES:
        old, new = getattr(before, address), getattr(after, address)
        for block in sorted(new):
            found += _changed(address, block * BLOCK, old.get(block, bytes(BLOCK)), new[block])
    return found


def _changed(address: Address, offset: int, old: bytes, new: bytes) -> list[Write]:
    runs: list[Write] = []
    for at, (was, now) in enumerate(zip(old, new, strict=True)):
        if was == now:
            continue
        if runs and runs[-1].offset + len(runs[-1].data) == offset + at:
            runs[-1] = runs[-1]._replace(data=runs[-1].data + bytes((now,)))
        else:
            runs.append(Write(address, offset + at, bytes((now,))))
    return runs


def _runs(address: Address, space: Space) -> list[Write]:
    """Blocks that follow one another are one write."""
    runs: list[Write] = []
    for block in sorted(space):
        if runs and runs[-1].offset + len(runs[-1].data) == block * BLOCK:
            runs[-1] = runs[-1]._replace(data=runs[-1].data + space[block])
        else:
            runs.append(Write(address, block * BLOCK, space[block]))
    return runs


def _write(guest: Guest, ifname: str, before: list[str], writes: list[Write], after: list[str]) -> None:
    """One command for all, with the bytes on its standard input."""
    steps = [f"cd {shlex.quote(folder(ifname))}", *before]
    steps += [
        f"dd of={write.address} bs={len(write.data)} count=1 seek={write.offset}"
        " iflag=fullblock oflag=seek_bytes conv=notrunc status=none"
        for write in writes
    ]
    guest.run(" && ".join([*steps, *after]), stdin=b"".join(write.data for write in writes))


def _space(guest: Guest, path: str) -> Space:
    done = guest.attempt(f"cat {shlex.quote(path)}")
    if done.returncode:
        raise LabError(f"{path}: {done.stderr.decode(errors='replace').strip()}")
    starts = range(0, len(done.stdout), BLOCK)
    blocks = {start // BLOCK: done.stdout[start : start + BLOCK] for start in starts}
    return {number: block for number, block in blocks.items() if any(block)}
