"""The system as a whole: SMBIOS strings, firmware, kernel and distribution."""

import re
from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About
from machine import Machine, NotPresentError
from wire.facts import Dmi

NAME = "dmi"
EVERY_S = 60.0
DEADLINE_S = 5.0

_ID = "/sys/class/dmi/id/"
_TREE = "/sys/firmware/devicetree/base/"
_KERNEL = "/proc/sys/kernel/"
_ARCH = re.compile(r"(?:^|[.\-_])(x86_64|amd64|aarch64|arm64|ppc64le|s390x|riscv64|loongarch64)(?:$|[.\-_+])")
_SPELLED = {"amd64": "x86_64", "arm64": "aarch64"}
STRINGS = {
    "vendor": "sys_vendor",
    "product": "product_name",
    "serial": "product_serial",
    "uuid": "product_uuid",
    "board_vendor": "board_vendor",
    "board": "board_name",
    "board_serial": "board_serial",
    "bios_vendor": "bios_vendor",
    "bios_version": "bios_version",
    "bios_date": "bios_date",
}


ABOUT = About(
    what="system, board, firmware, kernel, distribution, command line",
    source="`/sys/class/dmi/id`, device tree, `/proc/sys/kernel`, `/etc/os-release`",
    privileges="root for serial numbers and UUID",
    needs=("/sys/class/dmi/id/product_uuid",),
)


def collect(machine: Machine) -> Iterator[Dmi]:
    """One `Dmi`; raises NotPresentError when the machine names neither itself nor its hardware."""
    fact = read_dmi(machine)
    if fact == Dmi():
        raise NotPresentError("neither /proc/sys/kernel nor /sys/class/dmi/id is there")
    yield fact


def read_dmi(machine: Machine) -> Dmi:
    """What SMBIOS says, else the device tree; the serial numbers need root."""
    strings = {field: sysfs.text(machine, _ID + name) for field, name in STRINGS.items()}
    strings["product"] = strings["product"] or sysfs.text(machine, _TREE + "model")
    strings["serial"] = strings["serial"] or sysfs.text(machine, _TREE + "serial-number")
    kernel = sysfs.text(machine, _KERNEL + "osrelease")
    return Dmi(
        hostname=sysfs.text(machine, _KERNEL + "hostname"),
        kernel=kernel,
        arch=sysfs.text(machine, _KERNEL + "arch") or parse_arch(kernel),
        os=parse_os_release(sysfs.text(machine, "/etc/os-release")),
        cmdline=sysfs.text(machine, "/proc/cmdline"),
        chassis_type=sysfs.number(machine, _ID + "chassis_type"),
        **strings,
    )


def parse_arch(release: str) -> str:
    """The architecture in a kernel release (`5.14.0-427.el9.x86_64`), for kernels before 6.1; "" when it has none."""
    found = _ARCH.search(release)
    return _SPELLED.get(found[1], found[1]) if found else ""


def parse_os_release(text: str) -> str:
    """PRETTY_NAME without its quotes."""
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "PRETTY_NAME":
            return value.strip().strip("\"'")
    return ""
