"""ACPI hardware, TPM and watchdog: what the guest's own drivers make of them, changed from the host."""

import shlex
import subprocess
from pathlib import Path

import pytest

from hardware_lab import acpi
from tests.lab.conftest import Bench, wait_for

pytestmark = pytest.mark.lab
ZONE = "/sys/class/thermal/thermal_zone"
METER = "/sys/bus/acpi/drivers/power_meter/ACPI000D:00"
# WDIOC_SETTIMEOUT of 6 s; the close without a V before it leaves the watchdog running
ARM = "import fcntl, sys; file = open(sys.argv[1], 'wb', 0); fcntl.ioctl(file, 0xC0045706, b'\\6\\0\\0\\0')"
EMPTY_PCR = "0x" + "0" * 64


def number(bench: Bench, path: str) -> int:
    return int(bench.guest.run(f"cat {path}"))


def pcr(bench: Bench) -> str:
    """The application PCR 23."""
    return bench.guest.run("tpm2_pcrread sha256:23").split()[-1]


@pytest.mark.parametrize("cpus", [1, 4, 8, 9, 13, 256])
def test_the_table_compiles_without_a_warning(tmp_path: Path, cpus: int) -> None:
    source = tmp_path / "server.asl"
    source.write_text(acpi.table(cpus))
    done = subprocess.run(["iasl", "-vs", str(source)], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 Errors, 0 Warnings" in done.stdout
    assert (tmp_path / "server.aml").read_bytes()[:4] == b"SSDT"


def test_temperatures_power_and_fan_move_from_the_host(server: Bench) -> None:
    with server.values() as values:
        assert values.get("cpu_c") == 45
        values.set("cpu_c", 88.5)
        values.set("board_c", 51)
        values.set("power_w", 641.5)
        values.set("fan_rpm", 9100)
        wait_for(lambda: number(server, f"{ZONE}0/temp") == 88500, "88.5 degrees")
        wait_for(lambda: abs(number(server, f"{ZONE}1/temp") - 51000) <= 100, "51 degrees")
        wait_for(lambda: number(server, f"{METER}/power1_average") == 641_500_000, "641.5 W")
        assert number(server, "/sys/class/hwmon/*/fan1_input") == 9100
        assert server.guest.run(f"cat {ZONE}0/trip_point_0_type").strip() == "critical"
        assert number(server, f"{ZONE}0/trip_point_0_temp") == 105_000


def test_what_the_guest_sets_reaches_the_host(server: Bench) -> None:
    fan = server.guest.run("grep -l Fan /sys/class/thermal/cooling_device*/type").strip().removesuffix("/type")
    with server.values() as values:
        server.guest.write(f"{fan}/cur_state", "70")
        wait_for(lambda: values.get("fan_level") == 70, "the fan's level")
        values.set("cpu_c", 70)  # above the active trip point: the kernel turns the fan up
        wait_for(lambda: values.get("fan_level") == 100, "the fan turned up")
        server.guest.write(f"{METER}/power1_cap", "450000000")
        wait_for(lambda: values.get("cap_w") == 450, "the power cap")


def test_each_cpu_changes_its_own_speed(server: Bench) -> None:
    cpus = server.vm.server.machine.cpus
    policy = "/sys/devices/system/cpu/cpufreq/policy"
    for cpu in range(cpus):
        assert server.guest.run(f"cat {policy}{cpu}/scaling_driver {policy}{cpu}/affected_cpus").split() == [
            "acpi-cpufreq",
            str(cpu),
        ]
    with server.monitor() as monitor:

        def state(cpu: int) -> int:
            """Which P-state the guest has asked for: 0 is 2.9 GHz, 3 is 1.2 GHz."""
            return int(monitor.human(f"i /b {acpi.LATCHES[cpu]:#x}").split()[-1], 16)

        for cpu in range(cpus):
            server.guest.write(f"{policy}{cpu}/scaling_governor", "performance")
        wait_for(lambda: [state(cpu) for cpu in range(cpus)] == [0] * cpus, "all at full speed")
        server.guest.write(f"{policy}1/scaling_max_freq", "1200000")
        wait_for(lambda: [state(cpu) for cpu in range(cpus)] == [int(cpu == 1) * 3 for cpu in range(cpus)], "one slow")
        assert number(server, f"{policy}1/scaling_cur_freq") == 1_200_000
    assert server.guest.run("cat /sys/devices/system/cpu/cpu0/cpuidle/state1/name").strip() == "C1"


def test_a_critical_temperature_switches_the_server_off(server: Bench) -> None:
    with server.values() as values:
        values.set("cpu_c", 106)
        wait_for(lambda: not server.vm.on, "the guest powered off")


def test_the_tpm_measures_and_goes_back_with_the_snapshot(server: Bench) -> None:
    assert server.guest.run("cat /sys/class/tpm/tpm0/tpm_version_major").strip() == "2"
    assert pcr(server) == EMPTY_PCR
    server.guest.run(f"tpm2_pcrextend 23:sha256={'ab' * 32}")
    assert pcr(server) == "0xDEBB3E7ACFFF6DD18D501042273629F0B79CB206BB8C24F59F62DDB80849403B"
    assert server.guest.run("tpm2_getrandom --hex 16") != server.guest.run("tpm2_getrandom --hex 16")
    server.vm.restore("ready")
    assert pcr(server) == EMPTY_PCR


def test_the_watchdog_resets_a_server_that_hangs(server: Bench) -> None:
    first = server.guest.read("/proc/sys/kernel/random/boot_id")
    named = "grep -l i6300 /sys/class/watchdog/*/identity | cut -d/ -f5"
    name = server.guest.run(named).strip()
    with server.monitor() as monitor:
        server.guest.run(f"python3 -c {shlex.quote(ARM)} /dev/{name}")
        assert monitor.wait_for(lambda event: event["event"] == "WATCHDOG")["data"]["action"] == "reset"
        monitor.wait_for(lambda event: event["event"] == "RESET")
    server.guest.hang_up()
    wait_for(lambda: booted(server, first), "a new boot")
    assert number(server, f"/sys/class/watchdog/$({named})/bootstatus") == 32  # WDIOF_CARDRESET


def booted(bench: Bench, before: str) -> bool:
    done = bench.guest.attempt("cat /proc/sys/kernel/random/boot_id", timeout_s=60)
    return done.returncode == 0 and done.stdout.decode() != before
