"""One snmpsim that serves many recorded walks on loopback, each as a community of its own."""

import contextlib
import grp
import os
import pwd
import re
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from hardware_lab.failure import LabError
from hardware_lab.snmp import Row, read_recording

LOOPBACK = "127.0.0.1"


def index_order(row: Row) -> tuple[int, ...]:
    return tuple(map(int, row.oid.split(".")))


def lay_out(folder: Path, walks: Mapping[str, Sequence[Row]]) -> None:
    """The walks as snmpsim wants them: sorted, each OID once."""
    for name, rows in walks.items():
        once = {row.oid: row for row in rows}
        lines = [f"{row.oid}|{row.tag}|{row.value}\n" for row in sorted(once.values(), key=index_order)]
        (folder / f"{name}.snmprec").write_text("".join(lines), encoding="ascii")


def read(walk: Path) -> list[Row]:
    """A recorded walk; an object identifier is written without the dot that some recordings begin it with.

    Lines that are instructions for a simulator, or none at all, are left out.
    """
    try:
        rows = read_recording(walk)
    except LabError:
        lines = walk.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        found = (re.fullmatch(r"\.?(\d[\d.]*)\|(\d+x?)\|([ -~]*)", line) for line in lines)
        rows = [Row(match[1], match[2], match[3]) for match in found if match]
    return [row._replace(value=row.value.lstrip(".")) if row.tag == "6" else row for row in rows]


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def served(folder: Path, walks: Mapping[str, Sequence[Row]], *options: str) -> Generator[int]:
    """The UDP port where the walks are answered, while the context lasts."""
    data, cache, port = folder / "data", folder / "cache", free_port()
    data.mkdir(parents=True)
    lay_out(data, walks)
    argv = [
        *(sys.executable, "-P", "-W", "ignore", "-m", "snmpsim.commands.responder"),
        *("--data-dir", str(data), "--cache-dir", str(cache), "--log-level", "error"),
        *("--agent-udpv4-endpoint", f"{LOOPBACK}:{port}"),
        *("--process-user", pwd.getpwuid(os.geteuid()).pw_name),
        *("--process-group", grp.getgrgid(os.getegid()).gr_name),
        *options,
    ]
    with (folder / "snmpsim.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            _await_answer(process, port, next(iter(walks)), folder / "snmpsim.log")
            yield port
        finally:
            process.terminate()
            process.wait(30)


def _await_answer(process: "subprocess.Popen[bytes]", port: int, community: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    request = _get_request(community)
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker, contextlib.suppress(OSError):
            asker.settimeout(0.5)
            asker.connect((LOOPBACK, port))
            asker.send(request)
            if asker.recv(65535) != request:  # the kernel may give the asker the very port that is not listened to yet
                return
        time.sleep(0.05)
    raise AssertionError(f"snmpsim never answered: {log.read_text()}")


def _get_request(community: str) -> bytes:
    """A GET of sysDescr.0 over SNMP v2c."""

    def ber(tag: int, content: bytes) -> bytes:
        return bytes([tag, len(content)]) + content

    binding = ber(0x30, ber(0x30, bytes.fromhex("06082b06010201010100") + b"\x05\x00"))
    numbers = bytes.fromhex("020101020100020100")
    return ber(0x30, b"\x02\x01\x01" + ber(0x04, community.encode()) + ber(0xA0, numbers + binding))
