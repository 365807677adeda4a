"""`rackhand-lab`: servers, a PDU and a switch on this machine alone, to try things on and to break."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from hardware_lab import accelerator, image, install, packages, weather, wires
from hardware_lab.failure import LabError
from hardware_lab.lab import Lab, side_by_side
from hardware_lab.machine import Machine, read_machine
from hardware_lab.place import OURS
from hardware_lab.vm import Vm

app = typer.Typer(no_args_is_help=True, help=__doc__, add_completion=True, pretty_exceptions_enable=False)
LabName = Annotated[str, typer.Option("--lab", help="Which lab, where several run.", envvar="RACKHAND_LAB")]
SPARE_MIB = 1024  # what the machine keeps for itself


def main() -> None:
    """Run one verb; a LabError is one line on stderr and exit code 1."""
    try:
        app()
    except LabError as error:
        _end(str(error))
    except KeyboardInterrupt:
        _end("interrupted; `rackhand-lab down` ends what runs")


def _end(text: str) -> NoReturn:
    sys.stderr.write(f"rackhand-lab: {text}\n")
    sys.exit(1)


def _say(text: str) -> None:
    sys.stderr.write(f"  {text}\n")


@app.command()
def setup() -> None:
    """Install the packages and build kernel and guest image, once per machine; two minutes, then cached."""
    if packages.missing([*packages.HOST, *packages.NEWER]):
        _say("packages  installing what the lab needs")
    packages.ensure()
    if not image.find():
        _say("image     building kernel modules and a Debian guest, about two minutes")
    built = image.ensure()
    slow = accelerator.is_slow(accelerator.choose(built))
    _say(f"image     {built.folder}")
    _say("guests    emulated: no KVM that a guest boots on, so Python there is slower" if slow else "guests    KVM")


@app.command()
def up(
    machine: Annotated[Path | None, typer.Option(help="TOML file with the servers' hardware.")] = None,
    servers: Annotated[int, typer.Option(min=1, max=16, help="How many of them.")] = 2,
    rack: Annotated[bool, typer.Option(help="A PDU and a switch too.")] = True,
    lab: LabName = "lab",
) -> None:
    """Boot a lab: a broker, the inventory, servers with agents, a PDU and a switch; say how to look at it."""
    hardware = read_machine(machine) if machine else Machine()
    built = _ready()
    _enough_memory(hardware, servers)
    made = Lab.create(lab)
    try:
        _bring_up(made, hardware, servers, built, rack=rack)
    except BaseException:
        made.down()
        raise
    _show(made)


def _ready() -> image.Image:
    """The image; raises LabError when set-up has not been done."""
    lacking = packages.missing([*packages.HOST, *packages.NEWER])
    built = image.find()
    if lacking or not built:
        what = f"packages {' '.join(lacking)}" if lacking else "the guest image"
        raise LabError(f"{what} not here yet: make lab, or rackhand-lab setup")
    return built


def _enough_memory(machine: Machine, servers: int) -> None:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    there = int(lines["MemAvailable"].split()[0]) // 1024
    needed = servers * (machine.memory_mib + 256) + SPARE_MIB
    if there < needed:
        raise LabError(f"{servers} servers need {needed} MiB of memory, {there} are available: fewer, or smaller ones")


def _bring_up(lab: Lab, machine: Machine, servers: int, built: image.Image, *, rack: bool) -> None:
    vms = [lab.add(machine, built) for _ in range(servers)]
    slow = accelerator.is_slow(vms[0].state.accelerator)
    _say(f"servers   {servers} booting" + (", emulated: no KVM here, give it a minute" if slow else ""))
    if not wires.possible():
        _say("wires     none: they take root; the data NICs lead nowhere")
    wheel = install.build(lab.folder / "wheel")
    lab.start_inventory()
    if rack:
        lab.rack.start([vm.server for vm in vms])
    side_by_side([_booting(lab, vm, wheel) for vm in vms])
    weather.start(lab.folder)
    if rack and wires.possible():
        lab.rack.start_lldp([vm.server for vm in vms])


def _booting(lab: Lab, vm: Vm, wheel: Path) -> Callable[[], None]:
    def boot() -> None:
        took = vm.start()
        _say(f"{vm.server.name}      SSH after {took:.0f} s; installing the agent")
        lab.install(vm, wheel)
        lab.light_up(vm)
        install.start(vm.guest)

    return boot


@app.command()
def status(lab: LabName = "lab") -> None:
    """What runs, and how to look at it."""
    _show(Lab.load(lab))


def _show(lab: Lab) -> None:
    console = Console()
    table = Table("SERVER", "POWER", "SSH", "BMC (lanplus)", "SERIAL", box=None)
    for vm in lab.vms:
        bmc = f"127.0.0.1:{vm.bmc.ports.lan}" if vm.bmc else "-"
        power = "on" if vm.on else "off"
        table.add_row(vm.server.name, power, f"127.0.0.1:{vm.state.ssh}", bmc, vm.server.serial)
    console.print(table)
    for name, address in lab.rack.addresses().items():
        console.print(f"{name:9} {address}")
    name = "" if lab.settings.name == "lab" else f" --lab {lab.settings.name}"
    tips = {
        f"export RACKHAND_DB={lab.db}": "for the commands of the inventory",
        "rackhand hosts": "the servers, as the inventory knows them",
        f"rackhand-lab ssh{name} srv1": "a shell in one of them",
        f"rackhand-lab fault{name} srv1 cable-pull": "break something; without a kind, what there is",
        f"rackhand-lab down{name}": "end it all",
    }
    console.print()
    for command, about in tips.items():
        console.print(f"{command}   [dim]{about}[/dim]", soft_wrap=True)


@app.command(context_settings={"ignore_unknown_options": True})
def ssh(name: str, lab: LabName = "lab") -> None:
    """A shell in a server."""
    argv = Lab.load(lab).vm(name).guest.argv
    os.execvp(argv[0], argv)  # noqa: S606


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def run(name: str, command: Annotated[list[str], typer.Argument(metavar="-- CMD...")], lab: LabName = "lab") -> None:
    """Run a command in a server; its exit code is ours."""
    guest = Lab.load(lab).vm(name).guest
    words = command[1:] if command[0] == "--" else command
    sys.exit(subprocess.run([*guest.argv, " ".join(words)], check=False).returncode)


@app.command()
def console(name: str, lab: LabName = "lab") -> None:
    """What the serial console of a server has said since its power came on."""
    sys.stdout.write(Lab.load(lab).vm(name).console())


@app.command()
def fault(
    name: Annotated[str, typer.Argument(help="Server.")] = "",
    kind: Annotated[str, typer.Argument(help="What to break; without it, what there is.")] = "",
    end: Annotated[bool, typer.Option("--end", help="Put it right again.")] = False,
    lab: LabName = "lab",
) -> None:
    """Break something, or put it right again."""
    from hardware_lab import faults  # noqa: PLC0415 - pulls in all that can break

    if not kind:
        table = Table("KIND", "WHAT", "ENDS", box=None)
        for key, one in faults.ALL.items():
            table.add_row(key, one.about, "with --end" if one.end else "by itself")
        Console().print(table)
        return
    if kind not in faults.ALL:
        raise LabError(f"no fault {kind!r}: {', '.join(faults.ALL)}")
    chosen, made = faults.ALL[kind], Lab.load(lab)
    call = chosen.end if end else chosen.begin
    if call is None:
        raise LabError(f"{kind} ends by itself")
    call(made, made.vm(name))


@app.command()
def fleet(  # noqa: PLR0917 - options of a command line
    hosts: Annotated[int, typer.Option(min=1, max=20_000, help="Simulated agents.")] = 100,
    broker: Annotated[str, typer.Option(help="HOST:PORT; without it, the lab's.")] = "",
    minutes: Annotated[float, typer.Option(help="How long at most.")] = 5.0,
    reports: Annotated[int, typer.Option(help="Rows per host after which it is done; 0 for no end.")] = 0,
    capture: Annotated[list[Path] | None, typer.Option(help="Recorded machines (`rackhand-agent capture`).")] = None,
    per_s: Annotated[float, typer.Option(help="Connects and messages a second, of all hosts.")] = 1000.0,
    speed: Annotated[float, typer.Option(help="The collectors' intervals are divided by it.")] = 1.0,
    first: Annotated[int, typer.Option(help="Number of the first host: fleets beside each other differ in it.")] = 1,
    lab: LabName = "lab",
) -> None:
    """Simulated agents that replay recorded machines over real MQTT; bounded in time, count and rate."""
    from hardware_lab.fleet import Fleet  # noqa: PLC0415 - the collectors come with it
    from hardware_lab.fleet_plan import Options  # noqa: PLC0415

    address = broker or f"127.0.0.1:{Lab.load(lab).settings.broker}"
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise LabError(f"--broker {broker!r} is not HOST:PORT")
    options = Options(
        host=host,
        port=int(port),
        captures=capture or sorted((OURS / "recordings").glob("server*.txt")),
        hosts=hosts,
        minutes=minutes,
        reports=reports,
        per_s=per_s,
        speed=speed,
        first=first,
    )
    made = Fleet(options, _say)

    def stop(_number: int, _frame: object) -> None:
        made.stop()

    signal.signal(signal.SIGINT, stop)
    sys.stdout.write(f"{made.run().line}\n")


@app.command()
def down(lab: LabName = "lab") -> None:
    """End everything of the lab and forget it."""
    Lab.load(lab).down()


if __name__ == "__main__":
    main()
