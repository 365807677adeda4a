"""A server with everything the lab has, recorded: `python -m hardware_lab.full_server FILE` writes a redacted capture.

Four NICs with 16 queues and three with SR-IOV beside the management NIC, a module in each of the eight, sensor chips,
counted memory errors, two drives, BMC, TPM, watchdog, and a switch that speaks LLDP at the other ends.
"""

import contextlib
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

from hardware_lab import cage, chips, dimms, eeprom, image, install, wires
from hardware_lab.eeprom import Lane, Optic
from hardware_lab.far_end import FarEnd
from hardware_lab.lab import Lab
from hardware_lab.machine import Machine, Nic, Nvme
from hardware_lab.vm import Vm

QUEUES = 16
MACHINE = Machine(
    nics=(
        *(Nic(model="virtio-net", node=at % 2, queues=QUEUES, wire="data") for at in range(4)),
        *(Nic(node=at % 2, wire="data") for at in range(3)),
    ),
    nvme=(Nvme(node=0), Nvme(node=1)),
)
FORMS: tuple[eeprom.Form, ...] = ("sfp", "qsfp28", "qsfp-dd")
LISTEN_S = 40


@contextlib.contextmanager
def server(name: str) -> Generator[Vm]:
    """It, ready to be recorded; gone afterwards. Raises LabError."""
    lab = Lab.create(name)
    switch = FarEnd(lab.wires, lab.folder / "switch")
    try:
        vm = lab.add(MACHINE, image.ensure())
        vm.start()
        with tempfile.TemporaryDirectory() as folder:
            lab.install(vm, install.build(Path(folder)))
        furnish(lab, vm)
        switch.start({wires.tap(1, at): f"port{at + 1}" for at in range(len(MACHINE.nics))})
        yield vm
    finally:
        switch.stop()
        lab.down()


def furnish(lab: Lab, vm: Vm) -> None:
    """Links up with all their queues, modules with light, chips, memory controllers with an error, drives."""
    guest = vm.guest
    lab.light_up(vm)
    for at, nic in enumerate(MACHINE.nics):
        if nic.model == "virtio-net":
            guest.run(f"ethtool -L {vm.ifname(at)} combined {QUEUES}")
    for at, ifname in enumerate(["mgmt0", *(vm.ifname(at) for at in range(len(MACHINE.nics)))]):
        form = FORMS[at % len(FORMS)]
        lanes = (Lane(),) * {"sfp": 1, "qsfp28": 4, "qsfp-dd": 8}[form]
        cage.insert(guest, ifname, eeprom.build(Optic(form=form, serial=f"LAB{at:07}", lanes=lanes)))
    chips.load(guest)
    dimms.load(guest)
    dimms.inject(guest, next(iter(dimms.counts(guest))), "CE", 3)
    guest.run("modprobe -a ipmi_devintf nvme")


def main() -> int:
    """Record it into the file that is named."""
    with server("full") as vm:
        said = vm.guest.run(f"/opt/rackhand/bin/rackhand-agent capture --listen {LISTEN_S}", timeout_s=600)
        Path(sys.argv[1]).write_text(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
