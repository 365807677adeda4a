"""What the host's software may rely on: TPM, Secure Boot, lockdown, IOMMU, mitigations, taint, an opened chassis."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from collectors import edges, sysfs
from collectors.about import About, Cost
from machine import Machine, MachineError, NotPresentError
from wire.facts import Trust
from wire.report import Event, Severity
from wire.text import clean

NAME = "trust"
EVERY_S = 300.0
DEADLINE_S = 30.0

_TPM = "/sys/class/tpm/tpm0"
_SECURITY = "/sys/kernel/security"
_EFI = "/sys/firmware/efi"
_VARIABLES = f"{_EFI}/efivars"
_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"  # EFI_GLOBAL_VARIABLE
_GROUPS = "/sys/kernel/iommu_groups"
_HWMON = "/sys/class/hwmon"
_VULNERABILITIES = "/sys/devices/system/cpu/vulnerabilities"
_INTRUSION = re.compile(r"(intrusion\d+)_alarm")
_CHOSEN = re.compile(r"\[(\w+)\]")
_MICROCODE = re.compile(r"^microcode\s*:\s*(0x[0-9a-f]+|\d+)\s*$", re.MULTILINE)
_DIGEST = re.compile(r"(?:[0-9a-f]{2}){20,64}")
# Firmware and its settings, option ROMs, boot manager, Secure Boot's policy; boot loader, kernel, unified image, MOK.
# The others change while the system runs (10 is IMA's) or are nobody's.
PCRS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14)
STRONGEST = ("sha512", "sha384", "sha256", "sm3_256", "sha1")
TAINTS = {  # Documentation/admin-guide/tainted-kernels, by bit
    **{0: "proprietary module", 1: "module forced in", 2: "SMP on an unfit CPU", 3: "module forced out"},
    **{4: "machine check", 5: "bad page", 6: "userspace", 7: "died", 8: "ACPI table overridden", 9: "warning"},
    **{10: "staging driver", 11: "firmware workaround", 12: "out-of-tree module", 13: "unsigned module"},
    **{14: "soft lockup", 15: "live patch", 16: "auxiliary", 17: "randomised structures", 18: "in-kernel test"},
    **{19: "mutating fwctl"},
}

ABOUT = About(
    what="TPM with PCRs, Secure Boot, lockdown, IOMMU, taint, microcode, CPU vulnerabilities, chassis intrusion",
    source="`/sys/class/tpm`, efivars, securityfs, `/sys/class/iommu`, `/proc/sys/kernel/tainted`, hwmon",
    cost=Cost.PERTURBING,
    privileges="root for securityfs",
    needs=(f"{_SECURITY}/lockdown",),
)


def collect(machine: Machine) -> Iterator[Trust | Event]:
    """One `Trust`, and an event when the chassis was opened; raises NotPresentError where nothing of it is told."""
    groups, shut = read_groups(machine), read_intrusion(machine)
    fact = Trust(
        **read_tpm(machine),
        secure_boot=read_variable(machine, "SecureBoot"),
        setup_mode=read_variable(machine, "SetupMode"),
        lockdown=parse_chosen(sysfs.text(machine, f"{_SECURITY}/lockdown")),
        module_signatures={"Y": True, "N": False}.get(sysfs.text(machine, "/sys/module/module/parameters/sig_enforce")),
        lsm=[name for name in sysfs.text(machine, f"{_SECURITY}/lsm").split(",") if name],
        iommu=sysfs.names(machine, "/sys/class/iommu"),
        iommu_domains=groups,
        taint=parse_taint(sysfs.text(machine, "/proc/sys/kernel/tainted")),
        microcode=parse_microcode(sysfs.text(machine, "/proc/cpuinfo")),
        vulnerabilities=read_vulnerabilities(machine),
        intrusion=[switch for switch, opened in shut.items() if opened],
    )
    if fact == Trust():
        raise NotPresentError("neither TPM, EFI, securityfs, IOMMU nor the CPUs' vulnerabilities are told")
    yield fact
    for switch in edges.rises(machine, "trust", shut):
        yield Event(
            at_ms=0, kind="trust.intrusion", key=switch, severity=Severity.WARNING, text=f"chassis opened ({switch})"
        )


def read_tpm(machine: Machine) -> dict[str, Any]:
    """The fields of `Trust` about the first TPM; none of them where there is none."""
    if not sysfs.names(machine, _TPM):
        return {}
    major = sysfs.text(machine, f"{_TPM}/tpm_version_major")
    banks = [name.removeprefix("pcr-") for name in sysfs.names(machine, _TPM) if name.startswith("pcr-")]
    log = f"{_SECURITY}/tpm0/binary_bios_measurements"
    return {
        "tpm": {"1": "1.2", "2": "2.0"}.get(major, major) or "unknown",
        "tpm_device": clean(
            sysfs.text(machine, f"{_TPM}/device/description") or sysfs.link_name(machine, f"{_TPM}/device/driver"), 64
        ),
        "pcr_banks": banks,
        "pcrs": read_pcrs(machine, next((name for name in STRONGEST if name in banks), "")),
        "event_log": read_filled(machine, log),
    }


def read_pcrs(machine: Machine, bank: str) -> dict[str, str]:
    """`sha256:7` -> lower-case digest; the TPM is asked for each, one after the other."""
    if not bank:
        return {}
    read = {pcr: sysfs.text(machine, f"{_TPM}/pcr-{bank}/{pcr}").lower() for pcr in PCRS}
    return {f"{bank}:{pcr}": digest for pcr, digest in read.items() if _DIGEST.fullmatch(digest)}


def read_filled(machine: Machine, path: str) -> bool | None:
    """Whether a file has something in it; None when it cannot be read, False when it is not there."""
    try:
        return bool(machine.read_bytes(path))
    except NotPresentError:
        return False if sysfs.names(machine, _SECURITY) else None
    except MachineError:
        return None


def read_variable(machine: Machine, name: str) -> bool | None:
    """An EFI variable of one byte behind its four bytes of attributes; None where there is no such variable."""
    try:
        content = machine.read_bytes(f"{_VARIABLES}/{name}-{_GLOBAL}")
    except MachineError:
        return None
    return bool(content[4]) if len(content) == 5 else None


def read_groups(machine: Machine) -> dict[str, int]:
    """How many IOMMU groups there are of each type of domain, "unknown" where the kernel does not tell (5.11)."""
    names = sysfs.names(machine, _GROUPS)
    return dict(
        sorted(Counter(clean(sysfs.text(machine, f"{_GROUPS}/{name}/type"), 32) or "unknown" for name in names).items())
    )


def read_vulnerabilities(machine: Machine) -> dict[str, str]:
    """Those that concern this CPU, in the kernel's words."""
    found = {
        name: clean(sysfs.text(machine, f"{_VULNERABILITIES}/{name}"))
        for name in sysfs.names(machine, _VULNERABILITIES)
    }
    return {name: said for name, said in found.items() if said and said != "Not affected"}


def read_intrusion(machine: Machine) -> dict[str, int]:
    """Chassis switch (`nct6779/intrusion0`) -> 1 when it was opened since it was last cleared, years ago maybe."""
    switches: dict[str, int] = {}
    for chip in sysfs.names(machine, _HWMON):
        for folder in (f"{_HWMON}/{chip}", f"{_HWMON}/{chip}/device"):
            for file in sysfs.names(machine, folder):
                value = sysfs.number(machine, f"{folder}/{file}") if _INTRUSION.fullmatch(file) else None
                if value in (0, 1):
                    name = clean(sysfs.text(machine, f"{folder}/name"), 64) or chip
                    switches[f"{name}/{file.removesuffix('_alarm')}"] = value
    return switches


def parse_chosen(text: str) -> str:
    """The bracketed word of `none [integrity] confidentiality`."""
    found = _CHOSEN.search(text)
    return found[1] if found else ""


def parse_taint(text: str) -> list[str]:
    """The words for the bits of a taint mask; `bit 20` for one that is not in the table."""
    mask = sysfs.parse_number(text) or 0
    return [TAINTS.get(bit, f"bit {bit}") for bit in range(mask.bit_length()) if mask > 0 and mask >> bit & 1]


def parse_microcode(cpuinfo: str) -> list[str]:
    """The versions that the CPUs of /proc/cpuinfo run, sorted."""
    return sorted(set(_MICROCODE.findall(cpuinfo)))
