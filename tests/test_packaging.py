"""The wheel: nothing missing, nothing of somebody else's, and it runs without the checkout."""

import os
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PACKAGES = ("wire", "machine", "collectors", "pollers", "tuners", "agent", "hwdb", "hardware_lab")


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from this checkout, offline."""
    out = tmp_path_factory.mktemp("wheel")
    argv = [sys.executable, "-m", "pip", "-qq", "wheel", "--no-deps", "--no-build-isolation", "-w", str(out), str(root)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return next(out.glob("rackhand-*.whl"))


def test_our_top_level_names_are_nobody_elses() -> None:
    owners = packages_distributions()
    assert {name: owners[name] for name in PACKAGES if not set(owners.get(name, [])) <= {"rackhand"}} == {}


def test_the_wheel_holds_every_module_and_the_migrations(wheel: Path, root: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    ours = {str(path.relative_to(root)) for name in PACKAGES for path in (root / name).rglob("*.py")}
    ours |= {f"hwdb/{path.relative_to(root)}" for path in (root / "migrations").rglob("*.py")}
    lab = ("kmod/*.c", "kmod/*.h", "kmod/Kbuild", "image_files/**/*", "recordings/*", "acpi/*.asl")
    files = [path for pattern in lab for path in (root / "hardware_lab").glob(pattern) if path.is_file()]
    ours |= {str(path.relative_to(root)) for path in files} | {"hardware_lab/server.txt"}
    ours |= {str(path.relative_to(root)) for path in (root / "pollers" / "profiles").glob("*.toml")}
    assert ours - inside == set()
    assert {name for name in inside if name.startswith(("tests/", "bench/", "ansible/"))} == set()
    assert {f"{name}/py.typed" for name in PACKAGES} <= inside


def test_the_wheel_runs_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python3*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    ours = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
    code = (
        f"import sys, site; sys.path.append({str(ours)!r}); import hwdb.migrate, agent.cli, wire;"
        f"assert wire.__file__.startswith({str(site)!r}), wire.__file__;"
        f"hwdb.migrate.upgrade('sqlite:///{tmp_path}/inventory.db'); hwdb.migrate.check('sqlite:///{tmp_path}/inventory.db')"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([str(python), "-I", "-c", code], check=True, cwd=tmp_path, env=env)


@pytest.mark.parametrize(("command", "extra"), [("hwdb.cli.main", "inventory"), ("hardware_lab.start", "lab")])
def test_a_server_without_the_other_sides_libraries_is_told_in_one_line(command: str, extra: str, root: Path) -> None:
    code = f"import sys; sys.modules['typer'] = None; from {command} import main; sys.argv[1:] = ['nics']; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"rackhand{'-lab' if extra == 'lab' else ''}: typer is not installed here: pip install 'rackhand[{extra}]'"
    ]
