"""The lab's kernel modules, as text: what their Python side relies on is there, and so is the licence."""

import re
from pathlib import Path

import pytest

from hardware_lab import cage, eeprom

MAX_LINES, MAX_COLUMNS = 400, 120


@pytest.fixture
def kmod(root: Path) -> Path:
    return root / "hardware_lab" / "kmod"


def test_every_file_says_its_licence_and_keeps_its_size(kmod: Path) -> None:
    for path in kmod.iterdir():
        lines = path.read_text().splitlines()
        assert "SPDX-License-Identifier: GPL-2.0" in lines[0], path
        assert len(lines) <= MAX_LINES, path
        assert [line for line in lines if len(line.expandtabs(8)) > MAX_COLUMNS] == [], path


def test_every_source_is_built(kmod: Path) -> None:
    objects = set(re.findall(r"(\w+)\.o", (kmod / "Kbuild").read_text()))
    assert {path.stem for path in kmod.glob("*.c")} | {"lab_cage"} == objects


def test_modules_are_named_as_they_are_loaded(kmod: Path, root: Path) -> None:
    kbuild = (kmod / "Kbuild").read_text()
    for name, file in (("lab_cage", "cage.py"), ("lab_edac", "dimms.py")):
        assert re.search(rf"^obj-m :=.*\b{name}\.o", kbuild, re.MULTILINE)
        assert f"modprobe {name}" in (root / "hardware_lab" / file).read_text()
    sources = {path.name: path.read_text() for path in kmod.glob("*_main.c")} | {
        "lab_edac.c": (kmod / "lab_edac.c").read_text()
    }
    assert all('MODULE_LICENSE("GPL")' in text for text in sources.values())


def test_both_sides_know_the_same_files_and_sizes(kmod: Path) -> None:
    files = (kmod / "lab_cage_files.c").read_text()
    header = (kmod / "lab_cage.h").read_text()
    source = Path(cage.__file__).read_text()
    for name in ("a0", "a2", "present", "fail", "fail_after", "delay_ms", "reads"):
        assert f'"{name}"' in files
        assert name in source
    assert re.search(rf"#define BLOCK\s+{eeprom.BLOCK}U", header)
    assert re.search(rf"#define PAGES\s+{eeprom._PAGES}U", header)
    assert re.search(rf"#define BANKS\s+{eeprom._BANKS}U", header)


def test_parameters_given_to_the_memory_controller_are_its_own(kmod: Path, root: Path) -> None:
    known = set(re.findall(r"module_param(?:_array)?\((\w+)", (kmod / "lab_edac.c").read_text()))
    given = set(re.findall(r'f"(\w+)=\{', (root / "hardware_lab" / "dimms.py").read_text()))
    assert given <= known
    assert {"controllers", "channels", "slots", "labels"} <= given
