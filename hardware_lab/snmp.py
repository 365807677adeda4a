"""A PDU and a switch: snmpsim serves a recording over SNMP v2c and v3 on loopback, its values live in an SQLite file.

snmpsim's own `sql` variation reads and writes every value in that file, so a SET over SNMP and a change by the lab are
the same thing, seen by the next GET. Triggers are what a switched PDU does by itself when an outlet is told on or off.
"""

import contextlib
import grp
import importlib.util
import os
import pwd
import socket
import sqlite3
import sys
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from hardware_lab import daemon
from hardware_lab.failure import LabError

RECORDINGS = Path(__file__).parent / "recordings"
LOOPBACK = "127.0.0.1"
START_S = 60.0
NAME = "snmpsim"

PDU = "1.3.6.1.4.1.318.1.1.26"  # PowerNet-MIB rPDU2
OUTLET_STATE = f"{PDU}.9.2.3.1.5"  # rPDU2OutletSwitchedStatusState: 1 off, 2 on
OUTLET_COMMAND = f"{PDU}.9.2.4.1.5"  # rPDU2OutletSwitchedControlCommand: 1 on, 2 off, 3 reboot
OUTLET_WATTS = f"{PDU}.9.4.3.1.7"  # rPDU2OutletMeteredStatusPower
PDU_POWER = f"{PDU}.4.3.1.5.1"  # rPDU2DeviceStatusPower, hundredths of kW
LLDP_REMOTE = "1.0.8802.1.1.2.1.4.1.1"  # LLDP-MIB lldpRemEntry
IF_OPER_STATUS = "1.3.6.1.2.1.2.2.1.8"  # IF-MIB: 1 up, 2 down

_NO_CONTEXT = "self"  # snmpsim's name for what v3 asks for without a context
PACKAGES = ["snmpsim", "pysnmp", "pysmi", "cryptography"]  # names to import are names to install


class Row(NamedTuple):
    """One line of a recording: `1.3.6.1.2.1.1.5.0|4|lab-pdu-1`."""

    oid: str
    tag: str  # the BER tag, decimal; with "x" behind it the value is hex
    value: str


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Who may read and write: by community over v2c, by name with SHA and AES-128 over v3."""

    community: str = "public"
    name: str = "lab"
    auth_key: str = "lab-auth-key"
    priv_key: str = "lab-priv-key"


class Order(NamedTuple):
    """An outlet was told something over SNMP or by the lab."""

    outlet: int
    command: int  # 1 on, 2 off, 3 reboot


def read_recording(path: Path) -> list[Row]:
    """The rows of a .snmprec file; raises LabError with the line that is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}") from None
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            rows.append(_row(line, f"{path}:{number}"))
    return rows


def _row(line: str, where: str) -> Row:
    oid, *rest = line.split("|", 2)
    if len(rest) != 2 or not rest[0].removesuffix("x").isdigit() or not all(n.isdigit() for n in oid.split(".")):
        raise LabError(f"{where}: {line[:60]!r} is not OID|tag|value")
    tag, value = rest
    if not value.isascii():
        return Row(oid, f"{tag}x", value.encode(errors="surrogateescape").hex())
    return Row(oid, tag, value)


def neighbour(port: int, mac: str, system: str, chassis: str = "") -> list[Row]:
    """LLDP-MIB rows: what a switch's port sees of a server's NIC; `chassis` is the server's MAC, else the NIC's."""
    address, chassis_id = mac.replace(":", ""), (chassis or mac).replace(":", "")
    columns = {
        4: ("2", "4"),  # lldpRemChassisIdSubtype: MAC address
        5: ("4x", chassis_id),
        6: ("2", "3"),  # lldpRemPortIdSubtype: MAC address
        7: ("4x", address),
        8: ("4", mac),
        9: ("4", system),
        10: ("4", "Linux"),
        11: ("4x", "01"),  # lldpRemSysCapSupported, BITS, the first bit first: station only
        12: ("4x", "01"),
    }
    return [Row(f"{LLDP_REMOTE}.{column}.0.{port}.1", *cell) for column, cell in columns.items()]


def switch(plugged: Mapping[int, tuple[str, str]]) -> list[Row]:
    """The lab's switch with these neighbours: port (1 to 8) -> (MAC of the NIC, name of the server)."""
    rows = [row for row in read_recording(RECORDINGS / "switch.snmprec") if not row.oid.startswith(IF_OPER_STATUS)]
    ports = [row.oid.rpartition(".")[2] for row in rows if row.oid.startswith("1.3.6.1.2.1.2.2.1.1.")]
    rows += [Row(f"{IF_OPER_STATUS}.{port}", "2", "1" if int(port) in plugged else "2") for port in ports]
    return rows + [row for port, (mac, system) in plugged.items() for row in neighbour(port, mac, system)]


class Device:
    """One SNMP agent; its values may be read and changed before, while and after it runs, and by any process.

    With `rows` it begins with those values, without it goes on with what its folder holds.
    """

    def __init__(
        self, folder: Path, rows: Iterable[Row] | None = None, *, port: int = 0, user: User | None = None
    ) -> None:
        self.user = user or User()
        self.folder = folder.absolute()
        self._database = self.folder / "values.db"
        self._port_file = self.folder / "port"
        self._wanted = port  # UDP; 0 takes a free one
        if rows is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lay_out(rows)

    @property
    def port(self) -> int:
        """Where it listens on loopback; 0 when it was never started."""
        try:
            return int(self._port_file.read_text())
        except (OSError, ValueError):
            return 0

    def start(self) -> None:
        """Return when it answers; raises LabError for a package that is missing or a port in use."""
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise LabError(f"SNMP devices need Python packages: pip install {' '.join(missing)}")
        self._port_file.write_text(f"{_claim(self._wanted)}\n")
        daemon.start(self._argv(), self.folder, NAME)
        try:
            daemon.await_ready(self.folder, NAME, self._answers, START_S)
        except LabError:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and wait for that; a second call does nothing."""
        daemon.stop(self.folder, NAME)

    def running(self) -> bool:
        """False once it has ended, for whatever reason."""
        return daemon.find(self.folder, NAME) is not None

    def read(self, oid: str) -> str:
        """A value as its text in the recording; raises LabError when there is none."""
        with self._open() as values:
            found = values.execute("SELECT value FROM snmprec WHERE oid = ?", (_padded(oid),)).fetchone()
        if found is None:
            raise LabError(f"the device has no {oid}")
        return str(found[0])

    def write(self, oid: str, value: str) -> None:
        """Change a value, its type stays; raises LabError when there is none."""
        with self._open() as values:
            changed = values.execute("UPDATE snmprec SET value = ? WHERE oid = ?", (value, _padded(oid))).rowcount
        if not changed:
            raise LabError(f"the device has no {oid}")

    def outlets(self) -> dict[int, bool]:
        """Outlet number -> whether it gives power."""
        prefix = _padded(OUTLET_STATE)
        with self._open() as values:
            found = values.execute("SELECT oid, value FROM snmprec WHERE oid LIKE ? ORDER BY oid", (prefix + ".%",))
            return {int(oid[len(prefix) + 1 :]): value == "2" for oid, value in found}

    def switch_outlet(self, outlet: int, *, on: bool) -> None:
        """As the PDU does when it is told so over SNMP; raises LabError for an outlet it does not have."""
        self.write(f"{OUTLET_COMMAND}.{outlet}", "1" if on else "2")

    def draw(self, outlet: int, watts: int) -> None:
        """What is plugged in takes this much whenever the outlet is on."""
        with self._open() as values:
            values.execute("INSERT OR REPLACE INTO load VALUES (?, ?)", (outlet, watts))
        self.switch_outlet(outlet, on=self.outlets()[outlet])

    def orders(self, after: int = 0) -> list[tuple[int, Order]]:
        """What outlets were told, each with its number, beyond the number `after`: for whoever powers servers."""
        with self._open() as values:
            found = values.execute("SELECT id, outlet, command FROM orders WHERE id > ? ORDER BY id", (after,))
            return [(number, Order(outlet, command)) for number, outlet, command in found]

    @contextlib.contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._database, timeout=30)) as values, values:
            yield values

    def _lay_out(self, rows: Iterable[Row]) -> None:
        self._database.unlink(missing_ok=True)
        with self._open() as values:
            values.executescript(_schema())
            values.executemany(
                "INSERT OR REPLACE INTO snmprec VALUES (?, ?, ?, 'read-write')",
                [(_padded(row.oid), row.tag, row.value) for row in rows],
            )
            values.execute(
                "INSERT INTO load SELECT CAST(substr(oid, ?) AS INTEGER), value FROM snmprec WHERE oid LIKE ?",
                (len(_padded(OUTLET_WATTS)) + 2, _padded(OUTLET_WATTS) + ".%"),
            )

    def _argv(self) -> list[str]:
        data, user = self.folder / "data", self.user
        data.mkdir(exist_ok=True)
        for name in (user.community, _NO_CONTEXT):  # v2c asks by community, v3 by context
            (data / f"{name}.snmprec").write_text("1|:sql|snmprec\n")
        return [
            *(sys.executable, "-P", "-m", "snmpsim.commands.responder"),
            *("--data-dir", str(data), "--cache-dir", str(self.folder / "cache")),
            *("--variation-modules-dir", str(_variations())),
            *("--variation-module-options", f"sql:dbtype:sqlite3,database:{self._database}"),
            *("--agent-udpv4-endpoint", f"{LOOPBACK}:{self.port}", "--log-level", "error"),
            # snmpsim run as root insists on being told whom to become; the folder may be closed to anybody else
            *("--process-user", pwd.getpwuid(os.geteuid()).pw_name),
            *("--process-group", grp.getgrgid(os.getegid()).gr_name),
            *("--v3-user", user.name, "--v3-auth-key", user.auth_key, "--v3-auth-proto", "SHA"),
            *("--v3-priv-key", user.priv_key, "--v3-priv-proto", "AES"),
        ]

    def _answers(self) -> bool:
        """Whether a GET of sysName is answered."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker, contextlib.suppress(OSError):
            asker.settimeout(0.2)
            asker.connect((LOOPBACK, self.port))
            asker.send(_get_request(self.user.community))
            return bool(asker.recv(65535))
        return False


def _claim(port: int) -> int:
    """`port` when it is free, a free one for 0; raises LabError when it is taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a port number"
            raise LabError(f"UDP {LOOPBACK}:{port} for an SNMP device: {reason}") from None
        return int(probe.getsockname()[1])


def _padded(oid: str) -> str:
    """An OID as snmpsim's `sql` variation keeps it: text that sorts as OIDs do."""
    return ".".join(f"{number:>10}" for number in oid.split("."))


def _get_request(community: str) -> bytes:
    """A GET of sysName.0, SNMPv2c (RFC 3416), in BER."""
    name = bytes.fromhex("06082b06010201010500")
    binding = _ber(0x30, _ber(0x30, name + b"\x05\x00"))
    numbers = bytes.fromhex("020101020100020100")  # request id, error status, error index
    return _ber(0x30, b"\x02\x01\x01" + _ber(0x04, community.encode()) + _ber(0xA0, numbers + binding))


def _ber(tag: int, content: bytes) -> bytes:
    return bytes([tag, len(content)]) + content


def _variations() -> Path:
    """The folder of snmpsim's own variation modules."""
    spec = importlib.util.find_spec("snmpsim")
    assert spec is not None  # noqa: S101 - start() looked
    assert spec.origin is not None  # noqa: S101
    return Path(spec.origin).parent / "variation"


def _schema() -> str:
    """Tables in snmpsim's layout, and what a PDU does when an outlet is told on (1), off (2) or reboot (3)."""
    command, state, watts = (_padded(oid) for oid in (OUTLET_COMMAND, OUTLET_STATE, OUTLET_WATTS))
    outlet = f"substr(new.oid, {len(command) + 2})"
    return f"""
    CREATE TABLE snmprec (oid TEXT PRIMARY KEY, tag TEXT, value TEXT, maxaccess TEXT);
    CREATE TABLE load (outlet INTEGER PRIMARY KEY, watts INTEGER);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, outlet INTEGER, command INTEGER);
    CREATE TRIGGER told AFTER UPDATE OF value ON snmprec WHEN new.oid LIKE '{command}.%' BEGIN
      INSERT INTO orders (outlet, command) VALUES (CAST({outlet} AS INTEGER), CAST(new.value AS INTEGER));
      UPDATE snmprec SET value = '1' WHERE oid = new.oid AND value = '3';
      UPDATE snmprec SET value = CASE new.value WHEN '2' THEN '1' ELSE '2' END WHERE oid = '{state}.' || {outlet};
      UPDATE snmprec SET value = CASE new.value WHEN '2' THEN '0'
        ELSE (SELECT watts FROM load WHERE outlet = CAST({outlet} AS INTEGER)) END WHERE oid = '{watts}.' || {outlet};
      UPDATE snmprec SET value = (SELECT CAST(round(sum(value) / 10.0) AS INTEGER) FROM snmprec
        WHERE oid LIKE '{watts}.%') WHERE oid = '{_padded(PDU_POWER)}';
    END;
    """  # noqa: S608 - constants of this module


def pdu(folder: Path, *, port: int = 0, user: User | None = None) -> Device:
    """The lab's PDU with 8 outlets."""
    return Device(folder, read_recording(RECORDINGS / "pdu.snmprec"), port=port, user=user)
