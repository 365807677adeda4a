"""PCIe errors and machine checks are injected by one call and reach the kernel's own accounts."""

import pytest

from hardware_lab import errors, faults
from hardware_lab.errors import Severity
from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]
FAULTS = ("pcie-error", "memory-error")  # those of faults.ALL that are seen here


def test_pcie_errors_of_a_nic_are_counted_and_survived(server: Bench) -> None:
    ifname = server.nic(0)
    server.guest.run(f"ip link set {ifname} up")
    kinds: tuple[Severity, ...] = ("corrected", "nonfatal", "fatal")
    for severity in kinds:
        before = errors.aer_counts(server.guest, ifname)
        errors.aer(server.guest, ifname, severity)
        after = wait_for(lambda before=before: counted(server, ifname, before), f"a {severity} error counted")  # type: ignore[misc]
        assert {kind for kind in kinds if after[kind] != before[kind]} == {severity}
    wait_for(lambda: server.guest.read(f"/sys/class/net/{ifname}/carrier").strip() == "1", "the link again")


def counted(bench: Bench, ifname: str, before: dict[Severity, int]) -> dict[Severity, int] | None:
    now = errors.aer_counts(bench.guest, ifname)
    return now if now != before else None


def test_the_faults_of_both_kinds_reach_the_log(server: Bench) -> None:
    assert "Hardware Error" not in server.guest.run("dmesg")
    for kind in FAULTS:
        faults.ALL[kind].begin(server.lab, server.vm)
    wait_for(lambda: "AER: Correctable error" in server.guest.run("dmesg"), "a PCIe error")
    wait_for(lambda: "Machine check events logged" in server.guest.run("dmesg"), "a machine check")
    assert "Hardware Error" in server.guest.run("dmesg")
