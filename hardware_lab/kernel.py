"""The guest's kernel from Debian's backports, unpacked, with the lab's own modules and netdevsim built for it."""

import os
import re
import shutil
import time
from pathlib import Path

from hardware_lab.command import run
from hardware_lab.failure import LabError
from hardware_lab.packages import SUITE, Apt
from hardware_lab.place import OURS, cache, content, digest, only_one

KMOD = OURS / "kmod"
META = "linux-image-amd64"
# Of the kernel's sources: netdevsim (Debian leaves it out) and the headers that EDAC drivers share.
SOURCES = ("drivers/net/netdevsim", "drivers/edac/edac_mc.h", "drivers/edac/edac_module.h", "drivers/edac/edac_pci.h")
# What no server has: left out of the guest, which reads its modules uncompressed.
LEFT_OUT = (
    *("sound", "drivers/gpu", "drivers/media", "drivers/staging", "drivers/net/wireless", "drivers/iio"),
    *("drivers/infiniband/hw", "drivers/infiniband/ulp", "drivers/bluetooth", "net/bluetooth", "drivers/isdn"),
    *("drivers/comedi", "drivers/video"),
    *("fs/ocfs2", "fs/xfs", "fs/btrfs", "drivers/scsi", "drivers/input/joystick", "drivers/hid", "net/mac80211"),
    *("net/wireless", "drivers/usb/serial", "drivers/mmc", "drivers/platform", "drivers/mfd", "drivers/target"),
)


def key() -> str:
    """Names one build: it changes with the lab's modules and with this recipe."""
    return digest([*content(KMOD), Path(__file__).read_bytes()])


def ensure(apt: Apt) -> Path:
    """The folder with `vmlinuz`, `version` and `modules/` (a tree for the guest's root); built when it is missing."""
    folder = cache() / "kernel" / key()
    if (folder / "version").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with only_one(folder.parent / "lock"):
        if not (folder / "version").exists():
            work = folder.with_name(f"{folder.name}.{os.getpid()}")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            started = time.monotonic()
            _build(work, apt)
            shutil.rmtree(work / "work")
            (work / "built_s").write_text(f"{time.monotonic() - started:.1f}\n")
            shutil.rmtree(folder, ignore_errors=True)
            work.rename(folder)
    return folder


def _build(folder: Path, apt: Apt) -> None:
    work = folder / "work"
    release = _unpack(work, apt)
    headers = work / f"tree/usr/src/linux-headers-{release}"
    makefile = headers / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{work}/tree/usr/src/"))
    built = _modules(work, headers)
    tree = folder / "modules/lib/modules" / release
    _copy_modules(work / f"tree/lib/modules/{release}", tree)
    (tree / "extra").mkdir()
    for module in built:
        shutil.copy(module, tree / "extra")
    run(["strip", "-g", *map(str, (tree / "extra").glob("*.ko"))])
    run(["depmod", "-b", str(folder / "modules"), release])
    shutil.copy(work / f"tree/boot/vmlinuz-{release}", folder / "vmlinuz")
    (folder / "version").write_text(release)


def _unpack(work: Path, apt: Apt) -> str:
    """Kernel, headers and the sources that are needed, below `work`; the kernel's release."""
    version = apt.version(META, f"{SUITE}-backports")
    depends = apt.depends(META, version)
    found = re.search(r"linux-image-(\S+)-amd64", depends)
    if not found:
        raise LabError(f"{META} {version} names no kernel: {depends!r}")
    base, series = found[1], ".".join(found[1].split(".")[:2])
    names = (
        *(f"linux-image-{base}-amd64", f"linux-headers-{base}-amd64", f"linux-headers-{base}-common"),
        *(f"linux-kbuild-{base}", f"linux-source-{series}"),
    )
    for package in apt.fetch([f"{name}={version}" for name in names], work / "debs"):
        run(["dpkg-deb", "-x", str(package), str(work / "tree")])
    source = work / f"tree/usr/src/linux-source-{series}.tar.xz"
    wanted = [f"linux-source-{series}/{path}" for path in SOURCES]
    run(["tar", "-C", str(work), "--strip-components=1", "-xf", str(source), *wanted])
    return f"{base}-amd64"


def _modules(work: Path, headers: Path) -> list[Path]:
    """Build netdevsim and the lab's own modules; the .ko files."""
    simulated = work / "drivers/net/netdevsim"
    own = work / "kmod"
    shutil.copytree(KMOD, own)
    for header in (work / "drivers/edac").glob("*.h"):
        shutil.copy(header, own)
    for folder in (simulated, own):
        # BTF of modules takes pahole, which nothing else here needs
        settings = ["CONFIG_NETDEVSIM=m", "CONFIG_DEBUG_INFO_BTF_MODULES="]
        run(["make", "-s", "-j2", "-C", str(headers), f"M={folder}", *settings, "modules"])
    return [path for folder in (simulated, own) for path in folder.glob("*.ko")]


def _copy_modules(source: Path, tree: Path) -> None:
    """The modules that a server needs, uncompressed: xz is slow in an emulated guest."""
    for path in (source / "kernel").rglob("*.ko.xz"):
        relative = path.relative_to(source / "kernel")
        if not str(relative).startswith(LEFT_OUT):
            (tree / "kernel" / relative).parent.mkdir(parents=True, exist_ok=True)
            path.rename(tree / "kernel" / relative)
    packed = [str(path) for path in tree.rglob("*.ko.xz")]
    run(["xargs", "-0", "-n", "200", "-P", "2", "xz", "-d"], stdin="\0".join(packed).encode())
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(source / name, tree)
