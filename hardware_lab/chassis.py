"""What a BMC's power button does: the simulator runs this for `get NAME...` and `set NAME VALUE...` of a run folder."""

import sys
import time
from pathlib import Path

from hardware_lab import daemon
from hardware_lab.failure import LabError

_REMEMBERED = {"boot": "none", "identify": "0 0"}  # and what they are before anybody set them


def get(run: Path, names: list[str]) -> list[str]:
    """The lines that answer `get`: power is whether QEMU runs, boot device and identify are what was set."""
    said = {name: _remembered(run, name) for name in _REMEMBERED} | {"power": str(int(_on(run)))}
    return [f"{name}:{said.get(name, '0')}" for name in names]


def put(run: Path, name: str, value: str) -> None:
    """One `set`; raises LabError when QEMU refuses or does not answer."""
    with (run / "bmc/chassis.log").open("a") as log:
        log.write(f"{time.time():.3f} {name} {value}\n")
    if name in _REMEMBERED:
        (run / f"bmc/chassis.{name}").write_text(f"{value}\n")
    elif name == "power" and value == "1":
        if not _on(run):
            _power_on(run)
    elif name == "power":
        daemon.stop(run, "qemu")  # nothing is asked of the guest
    elif name == "reset":
        _tell(run, "system_reset")
    elif name == "shutdown":
        _tell(run, "system_powerdown")


def _remembered(run: Path, name: str) -> str:
    try:
        return (run / f"bmc/chassis.{name}").read_text().strip()
    except OSError:
        return _REMEMBERED[name]


def _power_on(run: Path) -> None:
    from hardware_lab.vm import power_on  # noqa: PLC0415 - `get` is asked often and needs none of it

    power_on(run)


def _on(run: Path) -> bool:
    return daemon.find(run, "qemu") is not None


def _tell(run: Path, command: str) -> None:
    from hardware_lab.monitor import Monitor  # noqa: PLC0415

    if _on(run):
        with Monitor(run / "qmp-bmc.sock") as monitor:
            monitor.run(command)


def main(arguments: list[str]) -> int:
    """RUN get NAME... or RUN set NAME VALUE...; 1 for anything that failed, which the BMC reports as its own error."""
    run, verb, *rest = Path(arguments[0]), *arguments[1:]
    if verb == "get":
        sys.stdout.write("".join(f"{line}\n" for line in get(run, rest)))
        return 0
    try:
        for name, value in zip(rest[::2], rest[1::2], strict=True):
            put(run, name, value)
    except (LabError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
