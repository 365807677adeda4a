"""What goes wrong in a rack, each as one call, and how it is put right again: a table for tests and for people."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from hardware_lab import cage, daemon, impair, qemu
from hardware_lab.bmc import Bmc
from hardware_lab.eeprom import Optic, build
from hardware_lab.failure import LabError
from hardware_lab.install import UNIT
from hardware_lab.lab import Lab
from hardware_lab.monitor import Monitor
from hardware_lab.vm import Vm

FULL = "/var/lib/rackhand/.full"
SENSOR = "CPU0 Temp"
UNPLUG_S = 60.0
HOUR_S = 3600
LOSS_PERCENT, DELAY_MS = 30, 200


class Fault(NamedTuple):
    """How to begin it, how to end it (None when it ends by itself), and what it is."""

    begin: Callable[[Lab, Vm], None]
    end: Callable[[Lab, Vm], None] | None
    about: str


def kill_agent(_lab: Lab, vm: Vm) -> None:
    """SIGKILL to the agent's resident process; systemd starts it again."""
    vm.guest.run(f"systemctl kill --kill-who=main -s KILL {UNIT}")


def cut_power(_lab: Lab, vm: Vm) -> None:
    """Reset without a sync: what the guest had not written is lost; it boots again by itself."""
    vm.guest.hang_up()
    (vm.folder / "serial.log").write_bytes(b"")  # QEMU appends: what is there then is of the new boot
    with vm.monitor() as monitor:
        monitor.run("system_reset")


def stop_broker(lab: Lab, _vm: Vm) -> None:
    """Broker and inventory end."""
    lab.stop_inventory()


def start_broker(lab: Lab, _vm: Vm) -> None:
    """Broker and inventory are back, with all they knew."""
    lab.start_inventory()


def hang_broker(lab: Lab, _vm: Vm) -> None:
    """Broker and inventory take connections and answer nothing."""
    _signal_inventory(lab, signal.SIGSTOP)


def wake_broker(lab: Lab, _vm: Vm) -> None:
    """They go on where they were."""
    _signal_inventory(lab, signal.SIGCONT)


def slow_management(_lab: Lab, vm: Vm) -> None:
    """Every packet from and to the management NIC waits."""
    impair.delay(vm, "wmgmt", DELAY_MS)


def quick_management(_lab: Lab, vm: Vm) -> None:
    """The management NIC is as quick as before."""
    impair.delay(vm, "wmgmt", 0)


def fill_disk(_lab: Lab, vm: Vm) -> None:
    """The agent's disk has no byte left."""
    vm.guest.run(f"mkdir -p {Path(FULL).parent}; dd if=/dev/zero of={FULL} bs=1M 2>/dev/null; sync; true")


def empty_disk(_lab: Lab, vm: Vm) -> None:
    """There is room again."""
    vm.guest.run(f"rm -f {FULL}; sync")


def clock_forward(_lab: Lab, vm: Vm) -> None:
    """The guest's clock jumps an hour ahead."""
    set_clock(vm, HOUR_S)


def clock_back(_lab: Lab, vm: Vm) -> None:
    """The guest's clock jumps an hour back."""
    set_clock(vm, -HOUR_S)


def clock_right(_lab: Lab, vm: Vm) -> None:
    """The guest's clock is right."""
    set_clock(vm, 0)


def set_clock(vm: Vm, ahead_s: float) -> None:
    """The guest's clock, this far from ours."""
    vm.guest.run(f"date -s @{time.time() + ahead_s:.3f} > /dev/null")


def unplug(_lab: Lab, vm: Vm, nic: int = 0) -> None:
    """Take a NIC out of its slot; returns when the guest has let go of it. Raises LabError."""
    with vm.monitor() as monitor:
        monitor.run("device_del", id=f"nic{nic}")
        monitor.wait_for(lambda event: _deleted(event, f"nic{nic}"), UNPLUG_S)


def plug(_lab: Lab, vm: Vm, nic: int = 0) -> None:
    """Put the NIC back; the guest finds it within seconds."""
    device = qemu.nic_device(vm.server, nic)
    with vm.monitor() as monitor:
        monitor.run("device_add", **device)


def _deleted(event: dict[str, object], device: str) -> bool:
    data = event.get("data")
    return event.get("event") == "DEVICE_DELETED" and isinstance(data, dict) and data.get("device") == device


def pull_cable(_lab: Lab, vm: Vm, nic: int = 0) -> None:
    """The NIC has no carrier."""
    set_link(vm, f"nic{nic}", up=False)


def put_cable(_lab: Lab, vm: Vm, nic: int = 0) -> None:
    """The NIC has its carrier again."""
    set_link(vm, f"nic{nic}", up=True)


def flap(_lab: Lab, vm: Vm, nic: int = 0) -> None:
    """The carrier goes and comes back."""
    set_link(vm, f"nic{nic}", up=False)
    set_link(vm, f"nic{nic}", up=True)


def set_link(vm: Vm, device: str, *, up: bool) -> None:
    """Carrier of a NIC (`nic0`, ..., `mgmt`)."""
    with vm.monitor() as monitor:
        monitor.run("set_link", name=device, up=up)


@contextlib.contextmanager
def deaf_with_one_queue(vm: Vm) -> Iterator[threading.Event]:
    """While it lasts, the management NIC has a defect: no carrier as long as one receive queue only is enabled.

    What it is set to is read from its registers, as firmware would. The event is set once it went deaf.
    """
    stop, went_deaf = threading.Event(), threading.Event()
    watcher = threading.Thread(target=_defect, args=(vm, stop, went_deaf), name="defect")
    watcher.start()
    try:
        yield went_deaf
    finally:
        stop.set()
        watcher.join()


def _defect(vm: Vm, stop: threading.Event, went_deaf: threading.Event) -> None:
    up = True
    with vm.monitor() as monitor:
        while not stop.wait(0.05):
            queues = enabled_queues(monitor)
            if queues and (queues > 1) != up:  # none while the driver resets it
                up = queues > 1
                monitor.run("set_link", name="mgmt", up=up)
                if not up:
                    went_deaf.set()
        if not up:
            monitor.run("set_link", name="mgmt", up=True)


def enabled_queues(monitor: Monitor) -> int:
    """Receive queues that the management NIC (an 82576) has enabled: RXDCTL(n).ENABLE, datasheet 8.10.10."""
    devices = [device for bus in monitor.run("query-pci") for device in bus["devices"]]
    (bar,) = [device["regions"][0]["address"] for device in devices if device["qdev_id"] == "mgmt"]
    if bar < 0:
        return 0
    said = [monitor.human(f"xp /1wx {bar + 0xC028 + 0x40 * queue:#x}") for queue in range(8)]
    return sum(bool(int(line.rpartition(":")[2], 16) & 1 << 25) for line in said)


def lose_frames(lab: Lab, vm: Vm) -> None:
    """A third of what the first NIC sends is lost."""
    impair.lose(lab.wires, vm.server.number, 0, LOSS_PERCENT)


def lose_nothing(lab: Lab, vm: Vm) -> None:
    """The cable is good again."""
    impair.lose(lab.wires, vm.server.number, 0, 0)


def delay_frames(_lab: Lab, vm: Vm) -> None:
    """The first NIC's frames are late, both ways."""
    impair.delay(vm, "w0", DELAY_MS)


def delay_nothing(_lab: Lab, vm: Vm) -> None:
    """The first NIC's frames are in time."""
    impair.delay(vm, "w0", 0)


def hang_bmc(_lab: Lab, vm: Vm) -> None:
    """The BMC takes messages and answers none."""
    _bmc(vm).hang()


def kill_bmc(_lab: Lab, vm: Vm) -> None:
    """The BMC is gone."""
    _bmc(vm).kill()


def revive_bmc(_lab: Lab, vm: Vm) -> None:
    """The BMC is back, with its event log."""
    _bmc(vm).revive()


def lose_sensor(_lab: Lab, vm: Vm) -> None:
    """A sensor of the BMC has no reading any more."""
    _bmc(vm).lose(SENSOR)


def find_sensor(_lab: Lab, vm: Vm) -> None:
    """The sensor has a reading again."""
    _bmc(vm).find(SENSOR)


def corrupt_eeprom(_lab: Lab, vm: Vm) -> None:
    """The first NIC's module answers with bytes whose checksums are wrong; one is put in when there is none."""
    ifname = vm.ifname(0)
    with contextlib.suppress(LabError):
        cage.attach(vm.guest, ifname)
        cage.insert(vm.guest, ifname, build(Optic()))
    cage.corrupt(vm.guest, ifname)


def repair_eeprom(_lab: Lab, vm: Vm) -> None:
    """Another module is in the cage."""
    cage.insert(vm.guest, vm.ifname(0), build(Optic()))


def _bmc(vm: Vm) -> Bmc:
    if vm.bmc is None:
        raise LabError(f"{vm.server.name} has no BMC")
    return vm.bmc


def _signal_inventory(lab: Lab, number: int) -> None:
    """To `rackhand up` and its broker, a child in a session of its own."""
    parent = daemon.find(lab.folder, "inventory")
    if parent is None:
        raise LabError("the lab's inventory does not run")
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for pid in (*map(int, children), parent):
        os.kill(pid, number)


ALL: dict[str, Fault] = {
    "agent-kill": Fault(kill_agent, None, "SIGKILL to the agent"),
    "power-cut": Fault(cut_power, None, "reset without a sync"),
    "broker-down": Fault(stop_broker, start_broker, "broker and inventory end"),
    "broker-hang": Fault(hang_broker, wake_broker, "broker and inventory answer nothing"),
    "broker-slow": Fault(slow_management, quick_management, "every packet to and from it waits"),
    "disk-full": Fault(fill_disk, empty_disk, "no byte left for the agent"),
    "clock-forward": Fault(clock_forward, clock_right, "the clock jumps an hour ahead"),
    "clock-back": Fault(clock_back, clock_right, "the clock jumps an hour back"),
    "nic-unplug": Fault(unplug, plug, "the first NIC leaves its slot"),
    "cable-pull": Fault(pull_cable, put_cable, "the first NIC has no carrier"),
    "link-flap": Fault(flap, None, "the first NIC's carrier goes and comes"),
    "wire-loss": Fault(lose_frames, lose_nothing, f"{LOSS_PERCENT} % of what the first NIC sends is lost"),
    "wire-delay": Fault(delay_frames, delay_nothing, f"the first NIC's frames are up to {DELAY_MS} ms late"),
    "bmc-hang": Fault(hang_bmc, revive_bmc, "the BMC answers nothing"),
    "bmc-kill": Fault(kill_bmc, revive_bmc, "the BMC is gone"),
    "sensor-gone": Fault(lose_sensor, find_sensor, f"{SENSOR} has no reading"),
    "eeprom-corrupt": Fault(corrupt_eeprom, repair_eeprom, "the first NIC's module has wrong checksums"),
}
