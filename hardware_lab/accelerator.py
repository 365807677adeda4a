"""Hardware virtualisation where a guest really runs on it, else emulation: a /dev/kvm that opens can still fail."""

import os
import platform
import subprocess
import tempfile
from pathlib import Path

from hardware_lab import qemu
from hardware_lab.image import Image
from hardware_lab.place import cache, digest

PROBE_S = 20.0


def choose(image: Image) -> list[str]:
    """QEMU's arguments; what a probe found is kept until kernel or image change."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return list(qemu.TCG)
    kept = cache() / f"kvm-{digest([platform.release(), platform.version(), image.folder.name])}"
    if not kept.exists():
        kept.write_text("kvm" if probe(image) else "tcg")
    return list(qemu.KVM if kept.read_text() == "kvm" else qemu.TCG)


def probe(image: Image) -> bool:
    """Whether the kernel and the initrd come to life on KVM, by what they say on the serial console."""
    argv = ["qemu-system-x86_64", *qemu.KVM, "-nodefaults", "-no-user-config", "-display", "none", "-m", "512M"]
    argv += ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-no-reboot"]
    with tempfile.TemporaryDirectory(prefix="rackhand-kvm-") as folder:
        said = Path(folder) / "serial"
        argv += ["-append", "console=ttyS0 quiet panic=-1 lab.probe", "-serial", f"file:{said}"]
        try:
            subprocess.run(argv, check=False, capture_output=True, timeout=PROBE_S)
        except (subprocess.TimeoutExpired, OSError):
            return False
        return said.exists() and "LAB PROBED" in said.read_text(errors="replace")


def is_slow(accelerator: list[str]) -> bool:
    """True for emulation, in which Python is about 11 times slower."""
    return accelerator[1] != "kvm"
