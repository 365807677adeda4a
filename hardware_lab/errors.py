"""Errors that hardware reports by itself: PCIe (AER) on a NIC, memory and caches (machine checks)."""

import struct
from typing import Literal

from hardware_lab.guest import Guest
from hardware_lab.vm import Vm

Severity = Literal["corrected", "nonfatal", "fatal"]
# Corrected and uncorrectable status bits to set: PCIe 6.0, 7.8.4. Whether an uncorrectable one is fatal is the device's
# severity register's to say; these are so by default.
_AER: dict[Severity, tuple[int, int]] = {
    "corrected": (0x0000_0001, 0),  # receiver error
    "nonfatal": (0, 0x0000_4000),  # completion timeout
    "fatal": (0, 0x0004_0000),  # malformed TLP
}
# A corrected memory read error in bank 7, address and misc valid, MCA error code 0x0091: Intel SDM 3B, 16.9
_MCE = "mce 0 7 0x9c00004000010091 0 0x12345678 0x8c"
_MCE_POLL = "/sys/devices/system/machinecheck/machinecheck0/check_interval"
_SEND = "import sys; open('/dev/aer_inject', 'wb', 0).write(sys.stdin.buffer.read())"


def aer(guest: Guest, ifname: str, severity: Severity) -> None:
    """Let a NIC report a PCIe error, through the kernel's aer_inject; raises GuestError.

    A fatal one resets its link: the driver recovers it within seconds, or the NIC is gone.
    """
    address = guest.run(f"basename $(readlink -f /sys/class/net/{ifname}/device)").strip()
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    corrected, uncorrectable = _AER[severity]
    where = (int(bus, 16), int(slot, 16), int(function, 16))
    # struct aer_error_inj of drivers/pci/pcie/aer_inject.c; the header log is ours to choose
    request = struct.pack("<BBBxIIIIIII", *where, uncorrectable, corrected, 0, 1, 2, 3, int(domain, 16))
    guest.run(f'modprobe aer_inject && python3 -c "{_SEND}"', stdin=request)


def aer_counts(guest: Guest, ifname: str) -> dict[Severity, int]:
    """Errors that reached the root port above a NIC, by kind: fatal ones the kernel counts nowhere else."""
    port = f"$(readlink -f /sys/class/net/{ifname}/device)/../aer_rootport_total_err_"
    names: dict[Severity, str] = {"corrected": "cor", "nonfatal": "nonfatal", "fatal": "fatal"}
    return {severity: int(guest.run(f"cat {port}{name}")) for severity, name in names.items()}


def machine_check(vm: Vm) -> None:
    """A corrected memory error that the kernel's poll finds within a second; raises LabError."""
    vm.guest.run(f"echo 1 > {_MCE_POLL}")
    with vm.monitor() as monitor:
        monitor.human(_MCE)
