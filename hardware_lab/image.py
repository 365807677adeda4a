"""The guest's root file system and initrd: Debian by mmdebstrap, the lab's files on top, written without a mount."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

from hardware_lab import kernel
from hardware_lab.command import answers, run
from hardware_lab.packages import SUITE, Apt, Mirror, read_mirror, run_as_root
from hardware_lab.place import OURS, cache, content, digest, keep_newest, only_one

FILES = OURS / "image_files"
SIZE_MIB = 2048  # of a sparse file
PACKAGES = (
    *("systemd", "systemd-sysv", "udev", "dbus", "python3", "python3-venv", "openssh-server", "iproute2", "procps"),
    *("ethtool", "ipmitool", "kmod", "pciutils", "lm-sensors", "fancontrol", "numactl", "i2c-tools", "tpm2-tools"),
    *("nvme-cli", "iperf3", "dmidecode", "tcpdump", "iputils-ping", "strace", "linux-cpupower", "lldpd", "irqbalance"),
    *("bpftool", "util-linux", "netcat-openbsd", "usbutils", "jq", "rasdaemon", "tuned"),
)
LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
IN_INITRD = ("virtio_pci", "virtio_blk", "ext4")
APPLETS = ("sh", "mount", "insmod", "switch_root", "mkdir", "echo", "cat", "ls", "sleep", "poweroff", "[")


class Image(NamedTuple):
    """What a guest boots from."""

    folder: Path

    @property
    def root(self) -> Path:
        """Root file system, a raw ext4 image; read only, every guest has an overlay of its own."""
        return self.folder / "root.img"

    @property
    def initrd(self) -> Path:
        """Initial RAM disk."""
        return self.folder / "initrd.img"

    @property
    def kernel(self) -> Path:
        """Compressed kernel."""
        return self.folder / "vmlinuz"

    @property
    def key(self) -> Path:
        """Private SSH key that root of every guest accepts."""
        return self.folder / "id"


def requirements() -> Path:
    """The locked Python packages of a server."""
    shipped, checkout = OURS / "server.txt", OURS.parent / "requirements/server.txt"
    return shipped if shipped.exists() else checkout


def key() -> str:
    """Names one build: it changes with everything that goes into it."""
    recipe = [Path(__file__).read_bytes(), requirements().read_bytes()]
    return digest([kernel.key(), *content(FILES), *recipe])


def find() -> Image | None:
    """The image if it is built; the folder that RACKHAND_LAB_IMAGE names is taken as it is."""
    named = os.environ.get("RACKHAND_LAB_IMAGE")
    image = Image(Path(named) if named else cache() / "image" / key())
    return image if image.root.exists() else None


def ensure() -> Image:
    """The image; built when it is missing, in about two minutes. Raises LabError."""
    if image := find():
        return image
    folder = cache() / "image" / key()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with only_one(folder.parent / "lock"):
        if image := find():
            return image
        mirror = read_mirror()
        apt = Apt(mirror)
        apt.update()
        work = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        started = time.monotonic()
        _build(Image(work), kernel.ensure(apt), mirror)
        (work / "built_s").write_text(f"{time.monotonic() - started:.1f}\n")
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
        keep_newest(folder.parent)
        keep_newest(cache() / "kernel")
    return Image(folder)


def _build(image: Image, kernel_folder: Path, mirror: Mirror) -> None:
    overlay = image.folder / "overlay"
    shutil.copytree(FILES / "root", overlay)
    shutil.copytree(kernel_folder / "modules/lib", overlay / "usr/lib")
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "rackhand-lab", "-f", str(image.key)])
    (overlay / "root/.ssh").mkdir(parents=True)
    shutil.copy(image.key.with_suffix(".pub"), overlay / "root/.ssh/authorized_keys")
    shutil.copy(requirements(), overlay / "lab/server.txt")
    _wheels(overlay / "lab/wheels")
    _root(image, overlay, mirror)
    _initrd(image, kernel_folder)
    shutil.copy(kernel_folder / "vmlinuz", image.kernel)
    shutil.rmtree(overlay)


def _wheels(into: Path) -> None:
    """What the agent imports, for the guest's Python; the guest itself reaches no index."""
    which = ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--require-hashes"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q"]
    run([*pip, *which, "-r", str(requirements()), "-d", str(into)])


def _root(image: Image, overlay: Path, mirror: Mirror) -> None:
    """Packages, our files and our customizing by mmdebstrap; then ext4 made from the folder, without a mount."""
    tree = image.folder / "root"
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    hooks = [
        f"sync-in {overlay} /",
        'chroot "$1" sh /lab/customize',
        'rm -rf "$1"/var/cache/apt/archives/* "$1"/var/lib/apt/lists/*',
    ]
    run_as_root(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", "--format=directory", f"--include={','.join(PACKAGES)}"),
            *('--aptopt=Apt::Install-Recommends "false"', *options),
            *(f"--customize-hook={hook}" for hook in hooks),
            *(SUITE, str(tree), *(line for line in mirror.lines() if "backports" not in line)),
        ]
    )
    make = ["mke2fs", "-q", "-t", "ext4", "-L", "labroot", "-J", "size=16", "-E", "lazy_itable_init=1"]
    run_as_root([*make, "-d", str(tree), str(image.root), f"{SIZE_MIB}M"])
    run_as_root(["rm", "-rf", str(tree)])
    run_as_root(["chown", str(os.geteuid()), str(image.root)])


def _initrd(image: Image, kernel_folder: Path) -> None:
    """busybox and the modules that the root file system takes, as a compressed cpio archive."""
    release = (kernel_folder / "version").read_text()
    tree = image.folder / "initrd"
    for name in ("bin", "dev", "proc", "sys", "newroot", "m"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin")
    for applet in APPLETS:
        (tree / "bin" / applet).symlink_to("busybox")
    order: list[str] = []
    for path in _needed(kernel_folder / "modules", release):
        shutil.copy(path, tree / "m")
        order.append(path.name)
    (tree / "m/order").write_text("\n".join(order) + "\n")
    shutil.copy(FILES / "init", tree / "init")
    (tree / "init").chmod(0o755)
    names = "\0".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    command = f"cpio -o -H newc --null --quiet --owner=0:0 | gzip -1 > {image.initrd}"
    run(["sh", "-c", command], stdin=names.encode(), cwd=tree)
    shutil.rmtree(tree)


def _needed(modules: Path, release: str) -> list[Path]:
    """Files of these modules and what they depend on, in the order to load them."""
    argv = ["modprobe", "-d", str(modules), "-S", release, "-a", "--show-depends", *IN_INITRD]
    lines = answers(argv).splitlines()
    return [Path(path) for path in dict.fromkeys(line.split()[1] for line in lines if line.startswith("insmod"))]
