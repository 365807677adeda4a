"""The switch at the far end of the servers' cables: a real lldpd that speaks and listens on the taps of a lab's wires.

A Linux bridge passes no LLDP on, so lldpd uses the bridge's ports themselves, as a switch does.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from hardware_lab import daemon
from hardware_lab.command import answers, run
from hardware_lab.wires import Wires

NAME = "lldpd"
SYSTEM = "lab-switch"  # as in recordings/switch.snmprec, its MAC too
DESCRIPTION = "LabWorks LW-SW8 Ethernet switch, software 1.9.2"
MAC = "02:00:00:5a:1a:00"
INTERVAL_S = 2  # between two frames; a neighbour is forgotten after four of them
PORTS = "s*"  # the taps: `wires.tap`; the bridge beside them only gives the switch its MAC

# Debian's lldpcli is set-uid to a user who may not enter the lab's folder; lldpd starts it too, to be configured.
_AS_ROOT = ("setpriv", "--no-new-privs")


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """What the switch hears on one port."""

    tap: str
    chassis: str  # the server's chassis id
    system: str  # its host name
    port: str  # its port id: the NIC's MAC, as Linux says it
    description: str = ""


class _Id(msgspec.Struct):
    value: str = ""


class _Chassis(msgspec.Struct):
    id: list[_Id] = []
    name: list[_Id] = []


class _Port(msgspec.Struct):
    id: list[_Id] = []
    descr: list[_Id] = []


class _Heard(msgspec.Struct):
    name: str
    chassis: list[_Chassis] = []
    port: list[_Port] = []


class _Interfaces(msgspec.Struct):
    interface: list[_Heard] = []


class _Answer(msgspec.Struct):
    lldp: list[_Interfaces] = []


class FarEnd:
    """The switch of one lab; found again in its folder by any process."""

    def __init__(self, wires: Wires, folder: Path) -> None:
        self.wires = wires
        self.folder = folder.absolute()
        self._socket = self.folder / "lldpd.sock"

    def start(self, ports: Mapping[str, str], wire: str = "data") -> None:
        """Speak on every tap; `ports` names them: tap -> port of the switch. Raises LabError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        bridge = self.wires.bridge(wire)
        self.wires.ip(f"link set {bridge} address {MAC}")
        settings = self.folder / "lldpd.conf"
        settings.write_text(
            f"configure system hostname {SYSTEM}\n"
            f'configure system description "{DESCRIPTION}"\n'
            f"configure lldp tx-interval {INTERVAL_S}\n"
            f"configure ports {bridge} lldp status disabled\n"
        )
        options = ["-d", "-u", str(self._socket), "-O", str(settings), "-I", f"{PORTS},{bridge}", "-C", bridge]
        daemon.start(self.wires.inside(*_AS_ROOT, "lldpd", *options), self.folder, NAME)
        daemon.await_ready(self.folder, NAME, lambda: SYSTEM in answers(self._argv("show", "chassis")))
        self.name_ports(ports)

    def name_ports(self, ports: Mapping[str, str]) -> None:
        """Name ports again, after a server was started: its taps are new. Raises LabError."""
        for tap, name in ports.items():
            where = ("configure", "ports", tap, "lldp")
            run(self._argv(*where, "portidsubtype", "local", name))
            run(self._argv(*where, "portdescription", name))
        self.speak()

    def speak(self) -> None:
        """Send a frame on every port now; raises LabError when it does not run."""
        run(self._argv("update"))

    def neighbours(self) -> list[Neighbour]:
        """What it hears, by port; raises LabError when it does not run."""
        return parse_neighbours(run(self._argv("-f", "json0", "show", "neighbors")))

    def running(self) -> bool:
        """False once it has ended, for whatever reason."""
        return daemon.find(self.folder, NAME) is not None

    def stop(self) -> None:
        """Say goodbye on every port and end; a second call does nothing."""
        daemon.stop(self.folder, NAME)

    def _argv(self, *words: str) -> list[str]:
        return [*_AS_ROOT, "lldpcli", "-u", str(self._socket), *words]


def parse_neighbours(text: str) -> list[Neighbour]:
    """What `lldpcli -f json0 show neighbors` says; raises msgspec.DecodeError."""
    heard = [one for part in msgspec.json.decode(text, type=_Answer).lldp for one in part.interface]
    found = [
        Neighbour(
            tap=one.name,
            chassis=_first([item for chassis in one.chassis for item in chassis.id]),
            system=_first([item for chassis in one.chassis for item in chassis.name]),
            port=_first([item for port in one.port for item in port.id]),
            description=_first([item for port in one.port for item in port.descr]),
        )
        for one in heard
    ]
    return sorted(found, key=lambda neighbour: neighbour.tap)


def _first(items: list[_Id]) -> str:
    return items[0].value if items else ""
