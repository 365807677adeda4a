"""Fan curves, a watchdog and lights on a server with its real drivers: kept while all is well, safe when it is not."""

import pytest

from hardware_lab import chips
from hardware_lab.chips import ADT7475, MAX6639
from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]
AGENT = "RACKHAND_OBSERVE=false /opt/rackhand/bin/rackhand-agent"
POLICY = """
name: kept
knobs:
  fan: {fans: "*/adt7475/*", sensors: "*/max6639/temp1", curve: "40:30 60:60 80:100"}
  watchdog: {device: "i6300*", feed: true, timeout_s: 900}
  led: {leds: "input*::scrolllock", state: "on"}
"""
PWM = "pwm1", "pwm2", "pwm3"
AUTOMATIC = "pwm2"  # which the chip drives
LIGHT = "/sys/class/leds/$(ls /sys/class/leds | grep -m1 scrolllock)"


def percent(value: float) -> int:
    return round(255 * value / 100)


def registers(bench: Bench) -> list[int]:
    """What the chip's registers hold, whoever wrote them."""
    return [chips.pwm(bench.guest, ADT7475, name) for name in PWM]


def apply(bench: Bench, policy: str) -> str:
    bench.guest.run("cat > /root/policy.yaml", stdin=policy.encode())
    return bench.guest.run(f"{AGENT} apply /root/policy.yaml --yes", timeout_s=300)


def timer(bench: Bench) -> str:
    return (
        "/sys/class/watchdog/" + bench.guest.run("grep -l i6300 /sys/class/watchdog/*/identity | cut -d/ -f5").strip()
    )


def snapshot(bench: Bench) -> str:
    """Everything that can be read of what the policy sets."""
    folder, dog = chips.folder(bench.guest, ADT7475), timer(bench)
    files = [f"{folder}/{name}_enable" for name in PWM] + [f"{folder}/{name}" for name in PWM if name != AUTOMATIC]
    files += [f"{dog}/{name}" for name in ("state", "timeout")]
    return bench.guest.run(f"grep -H . {' '.join(files)} {LIGHT}/trigger {LIGHT}/brightness")


@pytest.fixture
def cooled(server: Bench) -> Bench:
    """A server with fan chips, one output left to its chip, and an agent that observes."""
    chips.load(server.guest, (MAX6639, ADT7475))
    wait_for(lambda: server.guest.attempt("grep -qx adt7475 /sys/class/hwmon/*/name").returncode == 0, "its driver")
    folder = chips.folder(server.guest, ADT7475)
    server.guest.run(f"cd {folder}; echo 1 > {AUTOMATIC}_auto_channels_temp; echo 2 > {AUTOMATIC}_enable")
    server.guest.run(
        "mkdir -p /etc/rackhand; setsid /opt/rackhand/bin/rackhand-agent run >/root/agent.log 2>&1 </dev/null &"
    )
    wait_for(lambda: server.guest.attempt("test -s /var/lib/rackhand/agent.lock").returncode == 0, "an agent")
    return server


def agent(bench: Bench) -> int:
    return int(
        bench.guest.run("python3 -c \"import json; print(json.load(open('/var/lib/rackhand/agent.lock'))['pid'])\"")
    )


@pytest.mark.soak
def test_what_is_kept_is_safe_without_its_keeper_and_comes_back(cooled: Bench) -> None:
    before = snapshot(cooled)
    print(before, apply(cooled, POLICY))
    wait_for(lambda: set(registers(cooled)) == {percent(52.5)}, f"55 °C on the curve: {registers(cooled)}")
    chips.set_value(cooled.guest, MAX6639, "temp1", 70)
    wait_for(lambda: set(registers(cooled)) == {percent(80)}, f"70 °C on the curve: {registers(cooled)}")
    dog = timer(cooled)
    assert (cooled.guest.read(f"{dog}/state").strip(), cooled.guest.read(f"{dog}/timeout").strip()) == ("active", "900")
    assert cooled.guest.run(f"cat {LIGHT}/brightness {LIGHT}/trigger | tr '\\n' ' '").startswith("1 [none]")

    cooled.guest.run("systemctl kill --kill-who=main -s STOP rackhand-keeper")
    wait_for(lambda: registers(cooled) == [255] * 3, f"a keeper that hangs: full speed, {registers(cooled)}")
    cooled.guest.run("systemctl kill --kill-who=main -s KILL rackhand-keeper")
    wait_for(lambda: set(registers(cooled)) == {percent(80)}, "systemd started it again")

    chips.unplug(cooled.guest, MAX6639)
    wait_for(lambda: registers(cooled) == [255] * 3, "a lost sensor: full speed")
    print(cooled.guest.run(f"{AGENT} rollback --yes", timeout_s=300))
    assert snapshot(cooled) == before
    wait_for(lambda: "rackhand-keeper" not in cooled.guest.run("systemctl list-units --plain"), "no keeper is left")


@pytest.mark.soak
def test_an_agent_that_dies_leaves_full_speed_and_then_a_reset(cooled: Bench) -> None:
    apply(cooled, POLICY.replace("900", "20"))
    wait_for(lambda: set(registers(cooled)) == {percent(52.5)}, "on the curve")
    boot = cooled.guest.read("/proc/sys/kernel/random/boot_id")
    cooled.guest.run(f"kill -9 {agent(cooled)}")
    wait_for(lambda: registers(cooled) == [255] * 3, "full speed")

    def another_boot() -> bool:
        return cooled.answers() and cooled.guest.read("/proc/sys/kernel/random/boot_id") != boot

    wait_for(another_boot, "the watchdog's reset", 400)
    assert cooled.guest.read(f"{timer(cooled)}/bootstatus").strip() == "32"  # WDIOF_CARDRESET


@pytest.mark.soak
def test_a_watchdog_that_systemd_feeds_is_left_to_it(server: Bench) -> None:
    server.guest.run(
        "mkdir -p /etc/systemd/system.conf.d;"
        " printf '[Manager]\\nRuntimeWatchdogSec=600\\n' > /etc/systemd/system.conf.d/wd.conf; systemctl daemon-reexec"
    )
    dog = timer(server)
    wait_for(lambda: server.guest.read(f"{dog}/state").strip() == "active", "systemd feeds it")
    server.guest.run("cat > /root/policy.yaml", stdin=POLICY.encode())
    said = server.guest.run(f"{AGENT} plan /root/policy.yaml", timeout_s=120)
    assert "somebody else feeds it: systemd's RuntimeWatchdogSec=600 in /etc/systemd/system.conf.d/wd.conf" in said
