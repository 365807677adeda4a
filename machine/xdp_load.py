"""Our XDP programs from their artifact into the kernel: a whole set aside, so that putting it in place is one step."""

import contextlib
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from machine import MachineError, bpf, xdp_values
from wire.cpulist import parse_cpulist
from wire.xdp import PROGRAMS

ARTIFACT = Path(__file__).parent / "bpf_programs" / "programs.json"
ROOT, CANARY = "rh_root", "rh_pass"
NAMES = {program: f"rh_{program.replace('-', '_')}" for program in PROGRAMS}
KEPT = ("rh_stats", "rh_buckets", "rh_keep")  # maps that a new set takes over from the one it replaces
_LD_MAP_FD = 0x18
_PSEUDO_MAP_FD = 1


class Code(msgspec.Struct):
    """One program: instructions in hex, and which of them name which map."""

    code: str
    maps: list[tuple[int, str]]


class Artifact(msgspec.Struct):
    """What `xdp_build` made."""

    source: str
    license: str
    maps: dict[str, bpf.Shape]
    programs: dict[str, Code]


@functools.cache
def artifact() -> Artifact:
    """The programs that this version ships; raises MachineError when they are not there."""
    try:
        return msgspec.json.decode(ARTIFACT.read_bytes(), type=Artifact)
    except (OSError, msgspec.DecodeError) as error:
        raise MachineError(f"{ARTIFACT}: {error}") from None


@functools.cache
def possible_cpus() -> int:
    """How many CPUs this kernel could ever have: as many values has an entry of a map per CPU."""
    return parse_cpulist(Path("/sys/devices/system/cpu/possible").read_text())[-1] + 1


class Loaded:
    """A set of programs and maps of this process; closing it leaves what the kernel holds by other means."""

    def __init__(self, flags: int = 0) -> None:
        self.maps: dict[str, int] = {}
        self.programs: dict[str, int] = {}
        self._flags = flags

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        for handle in (*self.maps.values(), *self.programs.values()):
            with contextlib.suppress(OSError):
                os.close(handle)

    def take(self, name: str, handle: int) -> None:
        """Use a map that is there already, instead of a new one."""
        self.maps[name] = handle

    def map(self, name: str) -> int:
        """The map of this name, made when it is asked for first."""
        if name not in self.maps:
            shape = artifact().maps[name]
            if shape.type == bpf.CPUMAP:
                shape = shape._replace(entries=possible_cpus())
            self.maps[name] = bpf.create_map(shape, name)
        return self.maps[name]

    def load(self, name: str) -> int:
        """Load one program with its maps; raises MachineError with the verifier's words."""
        made = artifact().programs[name]
        code = bytearray.fromhex(made.code)
        for at, wanted in made.maps:
            if code[at * 8] != _LD_MAP_FD:
                raise MachineError(f"{ARTIFACT}: {name} has no map at {at}")
            code[at * 8 + 1] = (code[at * 8 + 1] & 0x0F) | _PSEUDO_MAP_FD << 4
            code[at * 8 + 4 : at * 8 + 8] = self.map(wanted).to_bytes(4, "little")
        self.programs[name] = bpf.load(bytes(code), name, artifact().license, self._flags)
        return self.programs[name]

    def build(self, values: Mapping[str, str | int | bool]) -> int:
        """Load the whole chain for these canonical settings; the root's descriptor."""
        chain = str(values["programs"]).split(",")
        root = self.load(ROOT)
        for program in chain:
            self.load(NAMES[program])
        for name, entries in xdp_values.fill(values).items():
            if name in self.maps:
                for key, value in entries.items():
                    bpf.update(self.maps[name], key, value)
        for slot, program in enumerate(following(chain)):
            if program:
                handle = self.programs[NAMES[program]]
                bpf.update(self.map("rh_slots"), xdp_values.number(slot), handle.to_bytes(4, "little"))
        return root


def following(chain: list[str]) -> list[str]:
    """Per slot the program that stands there: its own, or the next one after it; "" for none."""
    return [next((name for name in PROGRAMS[slot:] if name in chain), "") for slot in range(len(PROGRAMS))]
