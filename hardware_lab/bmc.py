"""One server's BMC: OpenIPMI's simulator, reached by the guest (KCS) and over the network (RMCP+) at the same time."""

import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

import msgspec

from hardware_lab import bmc_records as records
from hardware_lab import daemon
from hardware_lab.failure import LabError
from hardware_lab.machine import Server

LOOPBACK = "127.0.0.1"
USER = "admin"
_POLL_MS = 500  # how often the simulator reads the value files
_NAME = "ipmi_sim"
_GONE = 128  # a sensor's number plus this is the hidden sensor that says whether it is there
_PING = bytes.fromhex("0600ff06000011be80000000")  # RMCP, ASF presence ping


class BmcError(LabError):
    """The BMC answered with an error or not at all; the message ends with what ipmitool said."""


class Ports(msgspec.Struct, frozen=True):
    """Where the BMC is reached, on loopback."""

    lan: int  # UDP, RMCP+
    vm: int  # TCP; QEMU connects here
    console: int  # TCP; QEMU listens here with the guest's second serial port


def free_ports() -> Ports:
    """Three ports nobody has now."""
    with socket.socket(type=socket.SOCK_DGRAM) as lan, socket.socket() as vm, socket.socket() as console:
        for probe in (lan, vm, console):
            probe.bind((LOOPBACK, 0))
        return Ports(*(int(probe.getsockname()[1]) for probe in (lan, vm, console)))


def _claim(ports: Ports) -> None:
    """Raise LabError for a port that another process has; two simulators would share a UDP port without a word."""
    for kind, port in ((socket.SOCK_DGRAM, ports.lan), (socket.SOCK_STREAM, ports.vm)):
        with socket.socket(type=kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
            try:
                probe.bind((LOOPBACK, port))
            except (OSError, OverflowError) as error:
                why = error.strerror if isinstance(error, OSError) else "not a port number"
                raise LabError(f"the BMC cannot listen on {LOOPBACK}:{port}: {why}") from None


def devices(ports: Ports) -> list[str]:
    """QEMU's arguments: a KCS interface to the simulator, and the serial port (ttyS1) behind serial over LAN."""
    console = f"socket,id=sol,host={LOOPBACK},port={ports.console},server=on,wait=off"
    return [
        *("-chardev", f"socket,id=kcs,host={LOOPBACK},port={ports.vm},reconnect-ms=1000"),
        *("-device", "ipmi-bmc-extern,id=bmc,chardev=kcs", "-device", "isa-ipmi-kcs,bmc=bmc,irq=5"),
        *("-chardev", console, "-device", "isa-serial,chardev=sol,index=1"),
    ]


def lan_conf(server: Server, ports: Ports, password: str) -> str:
    """The simulator's configuration; every path is relative to its folder."""
    allowed = "".join(f"    allowed_auths_{level} md5\n" for level in ("callback", "user", "operator", "admin"))
    return f"""\
name "lab"
set_working_mc 0x20
  startlan 1
    addr {LOOPBACK} {ports.lan}
    priv_limit admin
{allowed}    guid {UUID(server.uuid).bytes_le.hex()}
    lan_config_program "./lan"
  endlan
  chassis_control "./chassis"
  serial 15 {LOOPBACK} {ports.vm} codec VM
  sol "tcp:{LOOPBACK}:{ports.console}" 115200 history=16384
  user 1 false "" "" user 10 md5
  user 2 true "{USER}" "{password}" admin 10 md5
"""


def commands(server: Server) -> str:
    """What the simulator is told at its start: the controller, sensors, records and FRUs."""
    lines = [
        "mc_setbmc 0x20",
        "mc_add 0x20 0x20 no-device-sdrs 0x01 2 14 0x9f 0 0x03e8",
        "sel_enable 0x20 1000 0x0a",
        "sensor_add 0x20 0 0 0x23 0x6f event-only",  # the IPMI watchdog
        f"sensor_set_event_support 0x20 0 0 enable scanning per-state {_bits(15)} {_bits(0)} {_bits(15)} {_bits(0)}",
        _add_record(records.controller_record("LabBMC")),
    ]
    for number, sensor in records.sensors(server).items():
        lines += _sensor_commands(number, sensor)
    for number, fru in enumerate(records.frus(server)):
        size = len(records.fru_image(fru))
        lines.append(f'mc_add_fru_data 0x20 {number} {size} file 0 "fru{number}.bin"')
        lines.append(_add_record(records.fru_record(number, fru)))
    return "\n".join([*lines, "mc_enable 0x20", ""])


def _sensor_commands(number: int, sensor: records.Sensor) -> list[str]:
    bits = _bits(sensor.events)
    code = 1 if isinstance(sensor, records.Analog) else 0x6F
    there = number + _GONE
    lines = [
        _add_record(records.sensor_record(number, sensor)),
        f'sensor_add 0x20 0 {there} 0xc0 0x6f poll {_POLL_MS} file "there/{number}"',
        f"sensor_set_bit 0x20 0 {there} 0 1 0",
        f"sensor_set_event_support 0x20 0 {there} disable scanning none {' '.join([_bits(0)] * 4)}",
        f'sensor_add 0x20 0 {number} 0x{sensor.kind:02x} 0x{code:02x} poll {_POLL_MS} file "value/{number}"'
        f" depends=0x20,0,{there},0",
    ]
    if isinstance(sensor, records.Discrete):
        lines += [f"sensor_set_bit 0x20 0 {number} {bit} 1 0" for bit in sensor.on]
    else:
        limits = sensor.thresholds
        enabled = "".join(str(int(at in limits)) for at in range(5, -1, -1))
        values = " ".join(f"0x{limits.get(at, 0):02x}" for at in range(5, -1, -1))
        lines += [
            f"sensor_set_value 0x20 0 {number} {sensor.raw(sensor.value)} 0",
            f"sensor_set_threshold 0x20 0 {number} settable {enabled} {values}",
            f"sensor_set_hysteresis 0x20 0 {number} settable 2 2",
        ]
    # last: what is so at the start is no event
    return [*lines, f"sensor_set_event_support 0x20 0 {number} enable scanning per-state {' '.join([bits] * 4)}"]


def _add_record(record: bytes) -> str:
    return "main_sdr_add 0x20 " + " ".join(f"0x{byte:02x}" for byte in record)


def _bits(mask: int) -> str:
    return f"{mask:015b}"


def lan_parameters(server: Server) -> str:
    """What the BMC says of its network port; the address is one of RFC 5737's, as its real one is loopback."""
    return f"""\
ip_addr:192.0.2.{server.number}
ip_addr_src:static
mac_addr:52:54:00:1b:{server.number:02x}:00
subnet_mask:255.255.255.0
default_gw_ip_addr:192.0.2.254
default_gw_mac_addr:00:00:00:00:00:00
backup_gw_ip_addr:0.0.0.0
backup_gw_mac_addr:00:00:00:00:00:00
"""


_LAN_PROGRAM = """\
#!/bin/sh
# LAN parameters of the BMC: get NAME..., set NAME VALUE..., check
verb=$1
shift
case $verb in
get) for name in "$@"; do grep "^$name:" lan.values; done ;;
set) while [ $# -gt 1 ]; do sed -i "s/^$1:.*/$1:$2/" lan.values; shift 2; done ;;
esac
"""


def chassis_program(run: Path) -> str:
    """The program the simulator calls for power, reset, boot device and identify: `chassis.py` for this run folder."""
    python, root = shlex.quote(sys.executable), shlex.quote(str(Path(__file__).resolve().parent.parent))
    return f'#!/bin/sh\ncd {root} && exec {python} -m hardware_lab.chassis {shlex.quote(str(run))} "$@"\n'


def prepare(server: Server, run: Path, *, ports: Ports | None = None, password: str = "") -> "Bmc":
    """Write a BMC's files into the `bmc` folder of a server's run folder: a new BMC, with an empty event log.

    Without a password a random one; IPMI allows 16 characters without spaces or quotes.
    """
    folder = run.resolve() / "bmc"
    for name in ("state", "value", "there"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)  # the simulator keeps the users' passwords in its state, for all to read
    ports, password = ports or free_ports(), password or secrets.token_hex(8)
    secret = {"password": f"{password}\n", "lan.conf": lan_conf(server, ports, password)}
    programs = {"lan": _LAN_PROGRAM, "chassis": chassis_program(run.resolve())}
    plain = {
        "commands": commands(server),
        "lan.values": lan_parameters(server),
        "ports.json": msgspec.json.encode(ports).decode(),
        "server.json": msgspec.json.encode(server).decode(),
    }
    for mode, files in ((0o600, secret), (0o700, programs), (0o600, plain)):
        for name, text in files.items():
            _write(folder / name, text, mode)
    for number, fru in enumerate(records.frus(server)):
        (folder / f"fru{number}.bin").write_bytes(records.fru_image(fru))
    for number, sensor in records.sensors(server).items():
        start = sensor.value if isinstance(sensor, records.Analog) else sensor.on
        _put(folder / f"value/{number}", _raw(sensor, start))
        _put(folder / f"there/{number}", 1)
    return Bmc(run)


def _write(path: Path, text: str, mode: int) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)


def _put(path: Path, value: int) -> None:
    new = path.with_suffix(".new")
    new.write_text(f"{value}\n")
    new.replace(path)  # the simulator must never read half a number


def _raw(sensor: records.Sensor, value: float | Iterable[int]) -> int:
    if isinstance(sensor, records.Analog) and isinstance(value, (int, float)):
        return sensor.raw(value)
    if isinstance(sensor, records.Discrete) and not isinstance(value, (int, float)):
        return sensor.raw(tuple(value))
    raise LabError(f"{sensor.name} takes {'a number' if isinstance(sensor, records.Analog) else 'a set of states'}")


class Bmc:
    """The BMC of the server whose run folder this is; any process can hold one, it lives in its files."""

    def __init__(self, run: Path) -> None:
        self.folder = run.resolve() / "bmc"
        try:
            self.ports = msgspec.json.decode((self.folder / "ports.json").read_bytes(), type=Ports)
            self.server = msgspec.json.decode((self.folder / "server.json").read_bytes(), type=Server)
        except (OSError, msgspec.DecodeError) as error:
            raise LabError(f"{self.folder}: no BMC was prepared here: {error}") from None
        self._numbers = {sensor.name: number for number, sensor in records.sensors(self.server).items()}

    def start(self) -> None:
        """Return when it answers on the network, its clock set; raises LabError with its last words."""
        if self.running():
            raise LabError(f"the BMC of {self.server.name} runs already")
        _claim(self.ports)
        argv = [_NAME, "-c", "lan.conf", "-f", "commands", "-s", "state", "-n"]
        daemon.start(argv, self.folder, _NAME)
        try:
            daemon.await_ready(self.folder, _NAME, self._answers)
            self.run("sel", "time", "set", "now")
        except LabError:
            self.stop()
            raise

    def stop(self) -> None:
        """End it; a second call does nothing."""
        daemon.stop(self.folder, _NAME)

    def running(self) -> bool:
        """True also while it hangs."""
        return daemon.find(self.folder, _NAME) is not None

    def hang(self) -> None:
        """It takes messages and answers none, in the guest and on the network; raises LabError when it does not run."""
        daemon.send(self.folder, _NAME, signal.SIGSTOP)

    def kill(self) -> None:
        """It ends without a word; the guest's interface loses it. Raises LabError when it does not run."""
        daemon.send(self.folder, _NAME, signal.SIGKILL)
        daemon.stop(self.folder, _NAME)

    def revive(self) -> None:
        """Back from `hang` or `kill`, with the event log it had; QEMU connects by itself."""
        if not self.running():
            self.start()
        daemon.send(self.folder, _NAME, signal.SIGCONT)
        daemon.await_ready(self.folder, _NAME, self._answers)

    def renew(self) -> None:
        """As it was when it was new: readings, event log, users, network settings; running again at the same ports."""
        self.stop()
        prepare(self.server, self.folder.parent, ports=self.ports, password=self.password)
        self.start()

    @property
    def password(self) -> str:
        """Of the user `admin`."""
        return (self.folder / "password").read_text().strip()

    def set(self, sensor: str, value: float | Iterable[int]) -> None:
        """A sensor's reading in its unit, or its states; seen within a second. Raises LabError."""
        number = self._number(sensor)
        _put(self.folder / f"value/{number}", _raw(records.sensors(self.server)[number], value))

    def lose(self, sensor: str) -> None:
        """The sensor has no reading any more, as when its part was pulled; raises LabError for an unknown one."""
        _put(self.folder / f"there/{self._number(sensor)}", 0)

    def find(self, sensor: str) -> None:
        """The sensor is there again; raises LabError for an unknown one."""
        _put(self.folder / f"there/{self._number(sensor)}", 1)

    @property
    def argv(self) -> list[str]:
        """The ipmitool command, over the network, without what to do; the password is in a file."""
        address = ["-H", LOOPBACK, "-p", str(self.ports.lan), "-U", USER, "-f", str(self.folder / "password")]
        return ["ipmitool", "-I", "lanplus", "-C", "3", *address]  # asking for cipher suites would cost ten seconds

    def run(self, *arguments: str, timeout_s: float = 60) -> str:
        """What ipmitool says over the network; raises BmcError."""
        try:
            done = subprocess.run(
                [*self.argv, *arguments], check=False, capture_output=True, text=True, timeout=timeout_s
            )
        except subprocess.TimeoutExpired:
            raise BmcError(f"ipmitool {' '.join(arguments)} took longer than {timeout_s:g} s") from None
        except OSError as error:
            raise BmcError(f"ipmitool: {error.strerror}; `rackhand-lab setup` installs what the lab needs") from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            raise BmcError(f"ipmitool {' '.join(arguments)}: {said[0]}")
        return done.stdout

    def _number(self, sensor: str) -> int:
        if sensor not in self._numbers:
            raise LabError(f"no sensor {sensor!r}: {', '.join(self._numbers)}")
        return self._numbers[sensor]

    def _answers(self) -> bool:
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.2)
            probe.connect((LOOPBACK, self.ports.lan))
            try:
                probe.send(_PING)
                return bool(probe.recv(64))
            except OSError:
                return False
