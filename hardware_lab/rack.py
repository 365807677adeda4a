"""The rack around the servers: a PDU that feeds them, a switch at the other end of their cables."""

from collections.abc import Sequence
from pathlib import Path

from hardware_lab import snmp, wires
from hardware_lab.far_end import FarEnd
from hardware_lab.machine import Server
from hardware_lab.snmp import Device
from hardware_lab.wires import Wires

PORTS = 8  # of the switch: recordings/switch.snmprec


class Rack:
    """PDU and switch of one lab; found again in its folder by any process."""

    def __init__(self, folder: Path, laid: Wires) -> None:
        self.folder = folder
        self.pdu = Device(folder / "pdu")
        self.switch = Device(folder / "switch")
        self.far_end = FarEnd(laid, folder / "lldp")
        self._wires = laid

    def start(self, servers: Sequence[Server]) -> None:
        """PDU and switch answer SNMP; each server draws from the outlet of its number. Raises LabError."""
        self.pdu = snmp.pdu(self.folder / "pdu")
        self.pdu.start()
        self.switch = Device(self.folder / "switch", snmp.switch(self._plugged(servers)))
        self.switch.start()

    def start_lldp(self, servers: Sequence[Server]) -> None:
        """The switch speaks LLDP on every cable; the servers must be on. Raises LabError."""
        names = {tap: f"Ethernet{port}" for port, tap in enumerate(_taps(servers), 1) if port <= PORTS}
        self.far_end.start(names)

    def stop(self) -> None:
        """End all of it; a second call does nothing."""
        self.far_end.stop()
        self.switch.stop()
        self.pdu.stop()

    def addresses(self) -> dict[str, str]:
        """Name of each device that runs, and how it is asked."""
        running = {"pdu": self.pdu, "switch": self.switch}
        how = {
            name: f"snmpwalk -v2c -c {device.user.community} 127.0.0.1:{device.port}"
            for name, device in running.items()
            if device.running()
        }
        return how | ({"lldp": "on every cable of the servers"} if self.far_end.running() else {})

    @staticmethod
    def _plugged(servers: Sequence[Server]) -> dict[int, tuple[str, str]]:
        ends = [(server.mac(at), server.name) for server in servers for at in range(len(server.machine.nics))]
        return dict(enumerate(ends[:PORTS], 1))


def _taps(servers: Sequence[Server]) -> list[str]:
    return [wires.tap(server.number, at) for server in servers for at in range(len(server.machine.nics))]
