"""A whole lab in one folder: a broker, the inventory, servers with agents, wires between them."""

import contextlib
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from hardware_lab import accelerator, daemon, image, install, weather
from hardware_lab.command import run
from hardware_lab.failure import LabError
from hardware_lab.machine import Machine, Server
from hardware_lab.place import runs
from hardware_lab.rack import Rack
from hardware_lab.vm import State, Vm, free_ports
from hardware_lab.wires import Wires

BIN = Path(sys.executable).parent
INVENTORY_S = 60.0


class Settings(msgspec.Struct, kw_only=True):
    """What a lab was made of, kept in its folder as lab.json."""

    name: str
    broker: int  # ports on 127.0.0.1
    api: int
    servers: list[str] = []


class Lab:
    """One lab; any process can hold it, it lives in its files."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = runs() / settings.name
        self.wires = Wires(settings.name)
        self.rack = Rack(self.folder / "rack", self.wires)

    @classmethod
    def create(cls, name: str) -> "Lab":
        """An empty lab; raises LabError when one of this name runs."""
        broker, api = free_ports(2)
        lab = cls(Settings(name=name, broker=broker, api=api))
        if lab.folder.exists() and (running := lab.running()):
            raise LabError(f"lab {name!r} runs already ({', '.join(running)}): rackhand-lab down")
        shutil.rmtree(lab.folder, ignore_errors=True)
        lab.folder.mkdir(mode=0o700, parents=True)
        lab.keep()
        return lab

    @classmethod
    def load(cls, name: str) -> "Lab":
        """The lab of this name; raises LabError when there is none."""
        try:
            return cls(msgspec.json.decode((runs() / name / "lab.json").read_bytes(), type=Settings))
        except (OSError, msgspec.MsgspecError):
            raise LabError(f"there is no lab {name!r}: rackhand-lab up") from None

    def keep(self) -> None:
        """Write down what the lab is made of."""
        (self.folder / "lab.json").write_bytes(msgspec.json.encode(self.settings))

    # -- servers -------------------------------------------------------------------------------------------------------

    @property
    def vms(self) -> list[Vm]:
        """The servers, running or not."""
        return [Vm.load(self.folder / name) for name in self.settings.servers]

    def vm(self, name: str) -> Vm:
        """The server of this name; raises LabError naming those there are."""
        if name not in self.settings.servers:
            raise LabError(f"no server {name!r}: {', '.join(self.settings.servers) or 'the lab has none'}")
        return Vm.load(self.folder / name)

    def add(self, machine: Machine, built: image.Image) -> Vm:
        """One more server with this hardware, not started."""
        number = len(self.settings.servers) + 1
        server = Server(f"srv{number}", number, machine)
        (ssh,) = free_ports(1)
        state = State(
            server=server,
            image=str(built.folder),
            lab=self.settings.name,
            accelerator=accelerator.choose(built),
            ssh=ssh,
            broker=self.settings.broker,
        )
        vm = Vm.create(self.folder / server.name, state)
        self.settings.servers.append(server.name)
        self.keep()
        return vm

    def install(self, vm: Vm, wheel: Path) -> None:
        """The agent from its wheel, configured to change what policies say, not started."""
        install.install(vm.guest, wheel)
        install.configure(vm.guest, {"lab": self.settings.name, "rack": "r1"}, observe=False)

    def light_up(self, vm: Vm) -> None:
        """Bring the data NICs up, each with an address of its own: 10.77.NIC.(10 + number)."""
        for at in range(len(vm.server.machine.nics)):
            ifname = vm.ifname(at)
            vm.guest.run(f"ip addr replace 10.77.{at}.{vm.server.number + 10}/24 dev {ifname}; ip link set {ifname} up")

    # -- inventory -----------------------------------------------------------------------------------------------------

    @property
    def db(self) -> str:
        """URL of the inventory's database."""
        return f"sqlite:///{self.folder / 'inventory' / 'rackhand.db'}"

    def start_inventory(self) -> None:
        """Broker, ingest and API of the lab; returns when the API answers. Raises LabError."""
        if daemon.find(self.folder, "inventory"):
            raise LabError(f"the inventory of lab {self.settings.name!r} runs already")
        ports = ["--port", str(self.settings.broker), "--api-port", str(self.settings.api)]
        state = self.folder / "inventory"
        argv = [str(BIN / "rackhand"), "up", "--no-agent", "--state", str(state), *ports]
        daemon.start(argv, self.folder, "inventory")
        daemon.await_ready(self.folder, "inventory", self._api_answers, INVENTORY_S)

    def stop_inventory(self, *, forget: bool = False) -> None:
        """End broker, ingest and API; with `forget` the database goes too."""
        daemon.stop(self.folder, "inventory")
        if forget:
            shutil.rmtree(self.folder / "inventory", ignore_errors=True)

    def ask(self, *words: str) -> Any:
        """What a verb of the inventory's command line says, as JSON; raises LabError with its one line."""
        text = run([str(BIN / "rackhand"), *words, "--db", self.db, "-o", "json"])
        return json.loads(text) if text.strip() else None

    def tell(self, *words: str) -> str:
        """A verb that changes something, confirmed; raises LabError with its one line."""
        return run([str(BIN / "rackhand"), *words, "--db", self.db, "--yes"])

    def _api_answers(self) -> bool:
        import urllib.request  # noqa: PLC0415

        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{self.settings.api}/api/v1/hosts"
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)
        return False

    # -- all of it -----------------------------------------------------------------------------------------------------

    def running(self) -> list[str]:
        """What of the lab has a process now."""
        found = ["inventory"] if daemon.find(self.folder, "inventory") else []
        names = [path.parent.name for path in self.folder.glob("*/state.json")]
        return found + [name for name in names if daemon.find(self.folder / name, "qemu")]

    def down(self) -> None:
        """End everything of the lab and remove its folder and its wires."""
        for vm in self.vms:
            vm.remove()
        weather.stop(self.folder)
        self.rack.stop()
        daemon.stop(self.folder, "inventory")
        self.wires.remove()
        shutil.rmtree(self.folder, ignore_errors=True)


def side_by_side(calls: Iterable[Callable[[], object]]) -> None:
    """Make these calls at once; raises the first error when all have ended."""
    errors: list[BaseException] = []

    def attempt(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    threads = [threading.Thread(target=attempt, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
