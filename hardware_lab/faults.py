"""What goes wrong in a rack, and how it is put right again: a table for tests and for people."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec

from hardware_lab import cage, daemon, errors, impair, qemu, wires
from hardware_lab.bmc import Bmc
from hardware_lab.eeprom import Optic, build
from hardware_lab.failure import LabError
from hardware_lab.install import UNIT
from hardware_lab.lab import Lab
from hardware_lab.monitor import Monitor
from hardware_lab.vm import Vm

STATE = "/var/lib/rackhand"  # the agent's, in the guest
FULL = f"{STATE}/.full"
SENSOR = "CPU0 Temp"
UNPLUG_S = 60.0
HOUR_S = 3600
LOSS_PERCENT, DELAY_MS = 30, 200

Action = Callable[[Lab, Vm], object]


class Fault(msgspec.Struct, frozen=True):
    """What it is, how it begins, and how it ends; None when it ends by itself."""

    about: str
    begin: Action
    end: Action | None = None


# -- the server --------------------------------------------------------------------------------------------------------


def kill_agent(_lab: Lab, vm: Vm) -> None:
    """SIGKILL to the agent's resident process; systemd starts it again."""
    vm.guest.run(f"systemctl kill --kill-who=main -s KILL {UNIT}")


def cut_power(_lab: Lab, vm: Vm) -> None:
    """Reset without a sync: what the guest had not written is lost; it boots again by itself."""
    vm.reset()


def fill_disk(_lab: Lab, vm: Vm) -> None:
    """The agent's disk has no byte left, not for root either; allocated rather than written, which is quick."""
    vm.guest.run(
        f"mkdir -p {STATE} && fallocate -l $(($(stat -f -c '%f * %S' {STATE}))) {FULL} 2>/dev/null;"
        f" dd if=/dev/zero of={FULL}.rest bs=4k 2>/dev/null; sync"
    )


def empty_disk(_lab: Lab, vm: Vm) -> None:
    """There is room again."""
    vm.guest.run(f"rm -f {FULL} {FULL}.rest; sync")


def set_clock(vm: Vm, ahead_s: float) -> None:
    """The guest's clock, this far from ours."""
    vm.guest.run(f"date -s @{time.time() + ahead_s:.3f} > /dev/null")


# -- its NICs ----------------------------------------------------------------------------------------------------------


def unplug(_lab: Lab, vm: Vm, nic: int = 0) -> None:
    """Take a NIC out of its slot; returns when the guest has let go of it. Raises LabError."""
    with vm.monitor() as monitor:
        monitor.run("device_del", id=f"nic{nic}")
        monitor.wait_for(
            lambda event: event["event"] == "DEVICE_DELETED" and event["data"].get("device") == f"nic{nic}", UNPLUG_S
        )


def plug(_lab: Lab, vm: Vm, nic: int = 0) -> None:
    """Put the NIC back, with the queues it had; the guest finds it within seconds. Raises LabError."""
    device = qemu.nic_device(vm.server, nic, tap=wires.possible())
    with vm.monitor() as monitor:
        monitor.run("device_add", **device)


def pull_cable(_lab: Lab, vm: Vm, nic: int = 0) -> None:
    """The NIC has no carrier."""
    set_link(vm, f"nic{nic}", up=False)


def put_cable(_lab: Lab, vm: Vm, nic: int = 0) -> None:
    """The NIC has its carrier again."""
    set_link(vm, f"nic{nic}", up=True)


def flap(lab: Lab, vm: Vm, nic: int = 0) -> None:
    """The carrier goes and comes back."""
    pull_cable(lab, vm, nic)
    put_cable(lab, vm, nic)


def set_link(vm: Vm, device: str, *, up: bool) -> None:
    """Carrier of a NIC (`nic0`, ..., `mgmt`)."""
    with vm.monitor() as monitor:
        monitor.run("set_link", name=device, up=up)


@contextlib.contextmanager
def deaf_with_one_queue(vm: Vm) -> Generator[threading.Event]:
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
    with vm.monitor("qmp-watch.sock") as monitor:
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
    regions = [region for device in devices if device["qdev_id"] == "mgmt" for region in device["regions"]]
    bar = next((region["address"] for region in regions if region["bar"] == 0), -1)
    if bar < 0:
        return 0
    return sum(bool(_register(monitor, bar + 0xC028 + 0x40 * queue) & 1 << 25) for queue in range(8))


def _register(monitor: Monitor, address: int) -> int:
    """A register of the NIC; 0 while it is not mapped, as in a reset that came in between."""
    said = monitor.human(f"xp /1wx {address:#x}").rpartition(":")[2].strip()
    return int(said, 16) if said.startswith("0x") else 0


def corrupt_eeprom(_lab: Lab, vm: Vm) -> None:
    """The first NIC's module answers with bytes whose checksums are wrong; one is put in when there is none."""
    ifname = vm.ifname(0)
    cage.attach(vm.guest, ifname)
    if not int(vm.guest.read(f"{cage.folder(ifname)}/present")):
        cage.insert(vm.guest, ifname, build(Optic()))
    cage.corrupt(vm.guest, ifname)


def replace_module(_lab: Lab, vm: Vm) -> None:
    """Another module is in the first NIC's cage."""
    cage.insert(vm.guest, vm.ifname(0), build(Optic()))


# -- what is around it -------------------------------------------------------------------------------------------------


def signal_inventory(lab: Lab, number: int) -> None:
    """To `rackhand up` and its children, the broker one of them; raises LabError when it does not run."""
    parent = daemon.find(lab.folder, "inventory")
    if parent is None:
        raise LabError("the lab's inventory does not run")
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    for pid in (*(int(word) for task in tasks for word in task.read_text().split()), parent):
        os.kill(pid, number)


def hang_bmc(_lab: Lab, vm: Vm) -> None:
    """The BMC takes messages and answers none."""
    bmc_of(vm).hang()


def bmc_of(vm: Vm) -> Bmc:
    """The server's BMC; raises LabError when it has none."""
    if vm.bmc is None:
        raise LabError(f"{vm.server.name} has no BMC")
    return vm.bmc


ALL: dict[str, Fault] = {
    "agent-kill": Fault("SIGKILL to the agent", kill_agent),
    "power-cut": Fault("reset without a sync", cut_power),
    "broker-down": Fault(
        "broker and inventory end", lambda lab, _: lab.stop_inventory(), lambda lab, _: lab.start_inventory()
    ),
    "broker-hang": Fault(
        "broker and inventory take connections and answer nothing",
        lambda lab, _: signal_inventory(lab, signal.SIGSTOP),
        lambda lab, _: signal_inventory(lab, signal.SIGCONT),
    ),
    "broker-slow": Fault(
        f"every packet of the management NIC is up to {DELAY_MS} ms late",
        lambda _, vm: impair.delay(vm, "wmgmt", DELAY_MS),
        lambda _, vm: impair.delay(vm, "wmgmt", 0),
    ),
    "disk-full": Fault("no byte left for the agent", fill_disk, empty_disk),
    "clock-forward": Fault(
        "the clock jumps an hour ahead", lambda _, vm: set_clock(vm, HOUR_S), lambda _, vm: set_clock(vm, 0)
    ),
    "clock-back": Fault(
        "the clock jumps an hour back", lambda _, vm: set_clock(vm, -HOUR_S), lambda _, vm: set_clock(vm, 0)
    ),
    "nic-unplug": Fault("the first NIC leaves its slot", unplug, plug),
    "cable-pull": Fault("the first NIC has no carrier", pull_cable, put_cable),
    "link-flap": Fault("the first NIC's carrier goes and comes", flap),
    "wire-loss": Fault(
        f"{LOSS_PERCENT} % of what the first NIC sends is lost",
        lambda lab, vm: impair.lose(lab.wires, vm.server.number, 0, LOSS_PERCENT),
        lambda lab, vm: impair.lose(lab.wires, vm.server.number, 0, 0),
    ),
    "wire-delay": Fault(
        f"the first NIC's frames are up to {DELAY_MS} ms late",
        lambda _, vm: impair.delay(vm, "w0", DELAY_MS),
        lambda _, vm: impair.delay(vm, "w0", 0),
    ),
    "bmc-hang": Fault("the BMC answers nothing", hang_bmc, lambda _, vm: bmc_of(vm).revive()),
    "bmc-kill": Fault("the BMC is gone", lambda _, vm: bmc_of(vm).kill(), lambda _, vm: bmc_of(vm).revive()),
    "sensor-gone": Fault(
        f"{SENSOR} has no reading", lambda _, vm: bmc_of(vm).lose(SENSOR), lambda _, vm: bmc_of(vm).find(SENSOR)
    ),
    "pcie-error": Fault(
        "the first NIC reports a corrected PCIe error", lambda _, vm: errors.aer(vm.guest, vm.ifname(0), "corrected")
    ),
    "memory-error": Fault("the CPU reports a corrected memory error", lambda _, vm: errors.machine_check(vm)),
    "eeprom-corrupt": Fault("the first NIC's module has wrong checksums", corrupt_eeprom, replace_module),
}
