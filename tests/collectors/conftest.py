"""Real machines' trees unpacked, namespaces of the tests' own, and the flag that rewrites goldens."""

import itertools
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from machine.live import Live

NUMBERS = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite the golden output of the collectors")


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update", default=False))


@pytest.fixture(scope="session")
def tree(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Live]:
    """Unpack a tarball below the data folder once; the machine whose root has its sys/ or proc/."""
    unpacked: dict[str, Live] = {}

    def unpack(name: str) -> Live:
        if name not in unpacked:
            folder = tmp_path_factory.mktemp("tree")
            with tarfile.open(data / name) as archive:
                archive.extractall(folder, filter="fully_trusted")  # noqa: S202 - our own data folder
            root = next(path for path in (folder, *sorted(folder.iterdir())) if (path / "sys").is_dir())
            unpacked[name] = Live(str(root))
        return unpacked[name]

    return unpack


def read_ttar(text: str, root: Path) -> None:
    """Write the tree of a ttar archive (its grammar is in TTAR-FORMAT.txt beside the captures)."""
    lines = iter(text.splitlines())
    path = root
    for line in lines:
        word, _, value = line.partition(": ")
        if word in ("Directory", "Path"):
            path = root / value
            (path if word == "Directory" else path.parent).mkdir(parents=True, exist_ok=True)
        elif word == "SymlinkTo":
            path.symlink_to(value)
        elif word == "Lines":
            body = "".join(f"{next(lines)}\n" for _ in range(int(value)))
            body = body.removesuffix("EOF\n") if body.endswith("EOF\n") and not body.endswith("\\EOF\n") else body
            path.write_text(body.replace("NULLBYTE", "\0"))


@pytest.fixture(scope="session")
def exporter(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Live:
    """The machine of node_exporter's fixtures: sys.ttar and proc/."""
    root = tmp_path_factory.mktemp("node_exporter")
    read_ttar((data / "sysfs-procfs/node_exporter/sys.ttar").read_text(), root)
    (root / "proc").symlink_to(data / "sysfs-procfs/node_exporter/proc")
    real = tmp_path_factory.mktemp("root")
    subprocess.run(["cp", "-rL", str(root / "proc"), str(real / "proc")], check=True)
    (root / "sys").rename(real / "sys")
    return Live(str(real))


@pytest.fixture
def namespace() -> Iterator[str]:
    """An empty network namespace, removed afterwards."""
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    name = f"rhc-{os.getpid()}-{next(NUMBERS)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)
