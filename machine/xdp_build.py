"""Makes `bpf_programs/programs.json` from the C sources with clang: `python -m machine.xdp_build [CLANG]`.

A host needs no toolchain: it loads what is in that file. Maps and the places where a program names one are in it.
"""

import hashlib
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "bpf_programs"
ARTIFACT = FOLDER / "programs.json"
COMPILERS = ("clang-14", "clang-15", "clang-16", "clang-19", "clang")
FLAGS = (
    "-O2",
    "-target",
    "bpfel",
    "-mcpu=v2",
    "-ffreestanding",
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",
    "-Werror",
)
_HEADER = struct.Struct("<IIQQQQIIQQ")  # of a section
_SYMBOL = struct.Struct("<IBBHQQ")
_PREFIX = "xdp/"


class Section(NamedTuple):
    """One section of an ELF file."""

    name: str
    kind: int
    link: int
    info: int
    body: bytes


def digest() -> str:
    """SHA-256 over the sources: the artifact was made from these, or it is stale."""
    sources = sorted([*FOLDER.glob("*.c"), *FOLDER.glob("*.h")])
    return hashlib.sha256(b"\0".join(path.name.encode() + b"\0" + path.read_bytes() for path in sources)).hexdigest()


def sections(elf: bytes) -> list[Section]:
    """The sections of a 64-bit little-endian ELF file; raises ValueError for anything else."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    offset, size, count, names_at = *struct.unpack_from("<Q", elf, 40), *struct.unpack_from("<HHH", elf, 58)
    rows = [_HEADER.unpack_from(elf, offset + size * number) for number in range(count)]
    names = rows[names_at]
    table = elf[names[4] : names[4] + names[5]]
    return [
        Section(_text(table, row[0]), row[1], row[6], row[7], b"" if row[1] == 8 else elf[row[4] : row[4] + row[5]])
        for row in rows
    ]


def _text(table: bytes, at: int) -> str:
    return table[at : table.index(b"\0", at)].decode()


def read(elf: bytes) -> dict[str, Any]:
    """The program, maps and relocations of one object file, as they stand in the artifact."""
    found = sections(elf)
    by_name = {section.name: section for section in found}
    symbols = _symbols(found, by_name[".symtab"])
    number = [section.name for section in found].index("maps") if "maps" in by_name else -1
    maps = {
        name: list(struct.unpack_from("<5I", by_name["maps"].body, at))
        for name, place, at in symbols
        if place == number and name
    }
    (name,) = [name for name in by_name if name.startswith(_PREFIX)]
    places: list[list[Any]] = []
    if relocations := by_name.get(f".rel{name}"):
        for at in range(0, len(relocations.body), 16):
            offset, info = struct.unpack_from("<QQ", relocations.body, at)
            places.append([offset // 8, symbols[info >> 32][0]])
    code = by_name[name].body
    return {"maps": maps, "programs": {name.removeprefix(_PREFIX): {"code": code.hex(), "maps": places}}}


def _symbols(found: list[Section], table: Section) -> list[tuple[str, int, int]]:
    """Name, section and offset of each symbol."""
    names = found[table.link].body
    rows = [_SYMBOL.unpack_from(table.body, at) for at in range(0, len(table.body), 24)]
    return [(_text(names, row[0]), row[3], row[4]) for row in rows]


def compiler() -> str:
    """The first clang that is installed; raises FileNotFoundError."""
    for name in COMPILERS:
        if shutil.which(name):
            return name
    raise FileNotFoundError(f"none of {', '.join(COMPILERS)} is installed")


def build(clang: str) -> dict[str, Any]:
    """Everything of the artifact, compiled anew; raises CalledProcessError, ValueError."""
    made: dict[str, Any] = {"source": digest(), "license": "Dual MIT/GPL", "maps": {}, "programs": {}}
    with tempfile.TemporaryDirectory() as folder:
        for source in sorted(FOLDER.glob("*.c")):
            target = Path(folder) / f"{source.stem}.o"
            subprocess.run([clang, *FLAGS, "-c", str(source), "-o", str(target)], check=True)
            part = read(target.read_bytes())
            for name, shape in part["maps"].items():
                if made["maps"].setdefault(name, shape) != shape:
                    raise ValueError(f"{source.name}: map {name} is another one elsewhere")
            made["programs"].update(part["programs"])
    return made


def text(made: dict[str, Any]) -> str:
    """The artifact's text."""
    return json.dumps(made, indent=1, sort_keys=True) + "\n"


def main(argv: list[str]) -> int:
    """Write the artifact; returns the exit code."""
    ARTIFACT.write_text(text(build(argv[0] if argv else compiler())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
