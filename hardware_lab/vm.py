"""One virtual server: its files, its QEMU, its start, snapshot, restore and end."""

import contextlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from hardware_lab import acpi, bmc, daemon, qemu, tpm, wires
from hardware_lab.bmc import Bmc
from hardware_lab.command import run
from hardware_lab.failure import LabError
from hardware_lab.guest import Guest, GuestError
from hardware_lab.image import Image
from hardware_lab.machine import Server
from hardware_lab.monitor import Monitor
from hardware_lab.wires import Wires

BOOT_S, RESTORE_S, START_S = 120.0, 120.0, 20.0
READY = "LAB READY"


class State(msgspec.Struct, kw_only=True):
    """What is needed to start a server again, kept in its folder as state.json."""

    server: Server
    image: str  # folder
    lab: str  # whose wires
    accelerator: list[str]
    ssh: int  # ports on 127.0.0.1
    broker: int
    nvme: bool = True  # whether its drives are in when it is switched on


class Vm:
    """One server of a lab; made anew by `create`, found again by `load`."""

    def __init__(self, folder: Path, state: State) -> None:
        self.folder = folder
        self.state = state
        self.server = state.server
        self.image = Image(Path(state.image))
        self.guest = Guest("root@127.0.0.1", folder / "ssh.sock", port=state.ssh, key=self.image.key)
        self.bmc = Bmc(folder) if state.server.machine.bmc else None
        self.place = qemu.Place(folder, state.ssh, state.broker, self.bmc.ports if self.bmc else None)

    @classmethod
    def create(cls, folder: Path, state: State) -> "Vm":
        """Empty disks, a TPM, the sensors' values: a new server, not started."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        _keep(folder, state)
        machine = state.server.machine
        if machine.bmc:
            bmc.prepare(state.server, folder)
        vm = cls(folder, state)
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(vm.image.root)]
        run([*argv, str(folder / "disk.qcow2")])
        for at, drive in enumerate(machine.nvme):
            _sparse(folder / f"nvme{at}.img", drive.size_mib)
        _sparse(folder / "mem0", machine.nodes[0].memory_mib)
        acpi.prepare(folder, machine.cpus)
        return vm

    @classmethod
    def load(cls, folder: Path) -> "Vm":
        """A server that was created; raises LabError when there is none."""
        try:
            return cls(folder, msgspec.json.decode((folder / "state.json").read_bytes(), type=State))
        except (OSError, msgspec.MsgspecError) as error:
            raise LabError(f"{folder.name}: no such server: {error}") from None

    # -- its process ---------------------------------------------------------------------------------------------------

    @property
    def on(self) -> bool:
        """Whether the server has power."""
        return daemon.find(self.folder, "qemu") is not None

    def start(self, *, nvme: bool = True, wait: bool = True) -> float:
        """Switch on and boot; returns when SSH answers, the seconds it took. Raises LabError."""
        started = time.monotonic()
        self.state.nvme = nvme
        _keep(self.folder, self.state)
        (self.folder / "serial.log").unlink(missing_ok=True)
        self._launch(nvme=nvme)
        if wait:
            self.wait_ready()
        return time.monotonic() - started

    def wait_ready(self) -> None:
        """Until a boot has come to its end; raises LabError.

        An emulated guest whose host was too busy while it measured its timers can hang at boot: it is reset once.
        """
        try:
            self._until(lambda: READY in self.console(), BOOT_S, "did not boot")
        except LabError as error:
            if not self.on:
                raise
            sys.stderr.write(f"{error}: reset\n")
            self.reset()
            self._until(lambda: READY in self.console(), BOOT_S, "did not boot, twice")
        self.guest.run("true", timeout_s=BOOT_S)

    def reset(self) -> None:
        """Boot again at once, without a sync: what the guest had not written is lost. Raises LabError."""
        self.guest.hang_up()
        (self.folder / "serial.log").write_bytes(b"")  # QEMU appends: what is there then is of the new boot
        with self.monitor() as monitor:
            monitor.run("system_reset")

    def console(self) -> str:
        """What the serial console has said since the server was switched on."""
        try:
            return (self.folder / "serial.log").read_text(errors="replace")
        except OSError:
            return ""

    def save(self, tag: str) -> None:
        """Keep memory and disk under a name; the server must have been started without NVMe."""
        with self.monitor() as monitor:
            if said := monitor.human(f"savevm {tag}"):
                raise LabError(f"{self.server.name}: no snapshot: {said}")

    def restore(self, tag: str) -> float:
        """Be as at the snapshot, whatever has happened since; returns when SSH answers, the seconds it took."""
        started = time.monotonic()
        self.stop()
        if self.bmc:
            self.bmc.renew()
        self._launch("-loadvm", tag, nvme=False)
        self._until(self._answers, RESTORE_S, "was not restored")
        self.guest.run(f"date -s @{time.time():.3f} >/dev/null")  # its clock stood still
        return time.monotonic() - started

    def stop(self) -> None:
        """Pull the plug: QEMU ends at once, what the guest had not written is lost."""
        self.guest.hang_up()
        daemon.stop(self.folder, "qemu")

    def remove(self) -> None:
        """End the server and what belongs to it; its folder stays."""
        self.stop()
        if self.bmc:
            self.bmc.stop()
        tpm.stop(self.folder)

    def ifname(self, nic: int) -> str:
        """What the guest calls a data NIC of the machine, "" while it has none; raises GuestError."""
        mac = self.server.mac(nic)
        return self.guest.run(f"grep -lx {mac} /sys/class/net/*/address | cut -d/ -f5").strip()

    def plug_nvme(self) -> None:
        """Put in the drives of a server that was started without them."""
        with self.monitor() as monitor:
            for at in range(len(self.server.machine.nvme)):
                where = {"driver": "file", "filename": self.place.path(f"nvme{at}.img")}
                monitor.run("blockdev-add", **{"driver": "raw", "node-name": f"drive{at}", "file": where})
                monitor.run("device_add", **qemu.nvme_device(self.server, at))

    def monitor(self, name: str = "qmp.sock") -> Monitor:
        """A connection to one of QEMU's monitors, to be closed soon: each talks to one at a time."""
        return Monitor(self.folder / name)

    # -- how -----------------------------------------------------------------------------------------------------------

    def _launch(self, *more: str, nvme: bool) -> None:
        if self.on:
            raise LabError(f"{self.server.name} runs already")
        for name in (*qemu.MONITORS, "serial.sock", "ssh.sock", "qemu.log"):
            (self.folder / name).unlink(missing_ok=True)
        if self.server.machine.tpm:
            tpm.start(self.folder)
        if self.bmc and not self.bmc.running():
            self.bmc.start()
        handles, cables = self._cables()
        command = qemu.argv(self.server, self.place, self.image, cables, accelerator=self.state.accelerator, nvme=nvme)
        try:
            daemon.start([*command, *more], self.folder, "qemu", handles)
        finally:
            for handle in handles:
                os.close(handle)
        self._until((self.folder / "qmp.sock").exists, START_S, "did not start")

    def _cables(self) -> tuple[list[int], list[str]]:
        """A tap for each NIC, on its wire's bridge; without root, ends that lead nowhere."""
        nics = self.server.machine.nics
        if not wires.possible():
            return [], [f"hubport,hubid={at + 1}" for at in range(len(nics))]
        laid = Wires(self.state.lab)
        laid.lay()
        handles: list[int] = []
        cables: list[str] = []
        for at, nic in enumerate(nics):
            queues = nic.queues if nic.model == "virtio-net" else 1
            fds = laid.plug(wires.tap(self.server.number, at), nic.wire, queues)
            handles += fds
            numbers = ":".join(map(str, fds))
            cables.append(f"tap,fds={numbers},vhost=off" if queues > 1 else f"tap,fd={numbers},vhost=off")
        return handles, cables

    def _answers(self) -> bool:
        try:
            self.guest.run("true", timeout_s=10)
        except GuestError:
            return False
        return True

    def _until(self, done: Callable[[], bool], timeout_s: float, else_: str) -> None:
        if not daemon.await_(lambda: done() or not self.on, timeout_s):
            raise LabError(f"{self.server.name} {else_} within {timeout_s:g} s; see {self.folder}")
        if not self.on:
            raise LabError(f"{self.server.name}: QEMU ended: {daemon.last_words(self.folder, 'qemu')}")


def power_on(folder: Path) -> None:
    """What the BMC's power button does: start the server in this folder, and do not wait for its boot."""
    vm = Vm.load(folder)
    vm.start(nvme=vm.state.nvme, wait=False)


def _keep(folder: Path, state: State) -> None:
    (folder / "state.json").write_bytes(msgspec.json.encode(state))


def _sparse(path: Path, size_mib: int) -> None:
    with path.open("wb") as file:
        file.truncate(size_mib << 20)


def free_ports(count: int) -> list[int]:
    """TCP ports on 127.0.0.1 that nobody listens on now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
