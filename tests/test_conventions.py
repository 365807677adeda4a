"""What this project promises of its own shape: sizes, READMEs, words."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOMS = ("wire", "machine", "collectors", "pollers", "tuners", "agent", "hwdb", "hardware_lab", "migrations", "bench")
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60


def tracked(root: Path, *patterns: str) -> list[Path]:
    """Files that git tracks, or would."""
    argv = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split("\n")
    return [root / name for name in listed if name and (root / name).is_file()]


def test_no_file_is_over_400_lines(root: Path) -> None:
    sizes = {path.relative_to(root): path.read_text().count("\n") for path in tracked(root, "*.py")}
    assert {path: size for path, size in sizes.items() if size > MAX_FILE_LINES} == {}


def test_no_function_is_over_60_lines(root: Path) -> None:
    long = []
    for path in tracked(root, "*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > MAX_FUNCTION_LINES:
                    long.append(f"{path.relative_to(root)}:{node.name} has {size}")
    assert long == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_stands_in_its_rooms_readme(root: Path, room: str) -> None:
    readme = (root / room / "README.md").read_text()
    modules = {path.stem for path in tracked(root, f"{room}/*.py") if path.parent.name == room} - {
        "__init__",
        "__main__",
    }
    assert {module for module in modules if not re.search(rf"`{module}(\.py)?`", readme)} == set()


@pytest.mark.parametrize("room", ROOMS)
def test_a_readme_names_no_module_that_is_gone(root: Path, room: str) -> None:
    tables = (root / room / "README.md").read_text().split("\n\n")
    listed = [table for table in tables if re.match(r"\| (module|name|file|tuner)\b", table)]
    rows = [row for table in listed for row in re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE)]
    known = {path.stem for path in tracked(root, f"{room}/*.py")} | {
        path.parent.name for path in tracked(root, f"{room}/**/*.py")
    }
    words = set(Path(root / "wire" / "README.md").read_text().split("`"))
    assert {row for row in rows if row not in known and row not in words} == set()


def test_no_address_of_a_package_registry_is_written_down(root: Path) -> None:
    hosts = [
        "pypi" + ".org",
        "python" + "hosted.org",
        "deb" + ".debian.org",
        "npm" + "js.org",
        "snapshot" + ".debian.org",
    ]
    found = []
    for path in tracked(root):
        text = path.read_bytes()
        found += [f"{path.relative_to(root)}: {host}" for host in hosts if host.encode() in text]
    assert found == []


def test_every_file_but_captures_is_text_in_unix_lines(root: Path) -> None:
    assert [path for path in tracked(root, "*.py", "*.md", "*.toml") if b"\r" in path.read_bytes()] == []


def test_every_folder_of_tests_stands_in_their_readme(root: Path) -> None:
    readme = (root / "tests" / "README.md").read_text()
    folders = {path.parent.relative_to(root / "tests").parts[0] for path in tracked(root, "tests/*/*")}
    files = {path.stem for path in tracked(root, "tests/test_*.py") if path.parent == root / "tests"}
    assert {name for name in folders | files if f"`{name}`" not in readme} == set()
