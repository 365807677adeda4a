"""The lab: how long the guest's kernel and image took to build, and a server to boot, to be kept and to be restored."""

import os
import time

from hardware_lab import accelerator, image, kernel, packages
from hardware_lab.lab import Lab
from hardware_lab.machine import Machine
from hardware_lab.place import cache

RESTORES = 3


def main() -> None:
    """Print the times; nothing is built anew that is there."""
    packages.ensure()
    built = image.ensure()
    for what, folder in (("kernel and modules", cache() / "kernel" / kernel.key()), ("guest image", built.folder)):
        took = folder / "built_s"
        print(f"{what:24}{took.read_text().strip() if took.exists() else '?':>8} s when it was built")
    lab = Lab.create(f"bench{os.getpid()}")
    try:
        vm = lab.add(Machine(), built)
        slow = accelerator.is_slow(vm.state.accelerator)
        print(f"{'accelerator':24}{'TCG (emulated)' if slow else 'KVM'}")
        boot = vm.start(nvme=False)
        print(f"{'boot to SSH':24}{boot:8.1f} s")
        started = time.perf_counter()
        vm.save("bench")
        print(f"{'snapshot':24}{time.perf_counter() - started:8.1f} s")
        for _ in range(RESTORES):
            took_s = vm.restore("bench")
            print(f"{'restore to SSH':24}{took_s:8.1f} s  {took_s / boot:5.2f} x the boot")
    finally:
        lab.down()
