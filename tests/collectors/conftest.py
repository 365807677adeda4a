"""Real machines' trees unpacked, and namespaces of the tests' own."""

import functools
import itertools
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from machine.live import Live

NUMBERS = itertools.count()


def write(root: Path, files: dict[str, str | bytes]) -> None:
    """Files of a machine's tree below this folder."""
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def extract(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Write a folder, link or file without owner, mode and times: half the work for trees of tiny files."""
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        path.symlink_to(member.linkname)
    elif content := archive.extractfile(member):
        path.write_bytes(content.read())


@functools.cache
def members(path: Path) -> tuple[str, ...]:
    """The names of all that is in a tarball, which takes long to say of a large one."""
    with tarfile.open(path) as archive:
        return tuple(archive.getnames())


def tarballs(data: Path, pattern: str) -> list[str]:
    """The tarballs below the data folder that have something of such a name in them."""
    wanted = re.compile(pattern)
    paths = sorted({*data.rglob("*.tar.*"), *data.rglob("*.tgz")})
    return [str(path.relative_to(data)) for path in paths if any(map(wanted.search, members(path)))]


def unpacker(data: Path, factory: pytest.TempPathFactory, keep: str) -> Callable[[str], Live]:
    """Unpack what matches `keep` of a tarball below the data folder, once; the machine whose root has its sys/."""
    unpacked: dict[str, Live] = {}
    kept = re.compile(keep)

    def unpack(name: str) -> Live:
        if name not in unpacked:
            folder = factory.mktemp("tree")
            with tarfile.open(data / name) as archive:
                for member in archive:
                    if kept.search(member.name):
                        extract(archive, member, folder / member.name)
            root = next(path for path in (folder, *sorted(folder.iterdir())) if (path / "sys").is_dir())
            unpacked[name] = Live(str(root))
        return unpacked[name]

    return unpack


@pytest.fixture(scope="session")
def tree(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Live]:
    """The machine of a tarball, without what no collector reads."""
    return unpacker(data, tmp_path_factory, r"^(?!.*/(power|cpuidle|thermal_throttle|firmware_node|config|resource)\b)")


@pytest.fixture(scope="session")
def topology(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Live]:
    """Only the CPUs and nodes of a tarball."""
    cpus = r"cpu/(?:[^/]+|cpu\d+/(?:online|topology/.*|cache/index\d+/(?:level|shared_cpu_\w+)))$"
    return unpacker(data, tmp_path_factory, rf"sys/devices/system/(?:{cpus}|node)|proc/(?:cpuinfo|cmdline|meminfo)$")


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
