"""The agent in a server: as the built wheel, under systemd."""

import shutil
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from hardware_lab import qemu
from hardware_lab.command import run
from hardware_lab.failure import LabError
from hardware_lab.guest import Guest
from hardware_lab.place import OURS

CHECKOUT = OURS.parent
CONFIG = "/etc/rackhand/agent.toml"
UNIT = "rackhand-agent.service"
PYTHON_S = 300.0  # Python in an emulated guest is about 11 times slower


def build(into: Path) -> Path:
    """The project's wheel, built from the checkout; raises LabError where there is none."""
    if not (CHECKOUT / "pyproject.toml").exists():
        raise LabError("the agent's wheel is built from the project's checkout: run rackhand-lab from there")
    shutil.rmtree(into, ignore_errors=True)
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into)], cwd=CHECKOUT)
    return next(into.glob("*.whl"))


def install(guest: Guest, wheel: Path) -> None:
    """Put the wheel into the guest's virtual environment, whose other packages the image has; raises GuestError."""
    guest.put(wheel, "/root")
    pip = "/opt/rackhand/bin/pip install -q --no-index --no-deps --no-compile --force-reinstall"
    guest.run(f"{pip} /root/{wheel.name}", timeout_s=PYTHON_S)
    guest.run("/opt/rackhand/bin/python -m compileall -q -j 2 /opt/rackhand/lib/python3*/site-packages", timeout_s=600)


def configure(guest: Guest, labels: Mapping[str, str], *, observe: bool) -> None:
    """Write the agent's configuration: the lab's broker, these labels, whether it changes anything."""
    address, port = qemu.BROKER
    lines = [f"observe = {str(observe).lower()}", "[broker]", f'host = "{address}"', f"port = {port}", "[labels]"]
    text = "\n".join([*lines, *(f'{key} = "{value}"' for key, value in labels.items())]) + "\n"
    tomllib.loads(text)
    guest.run(f"mkdir -p /etc/rackhand && cat > {CONFIG}", stdin=text.encode())


def start(guest: Guest) -> None:
    """Enable the agent's service and start it; returns when it says it is ready."""
    guest.run(f"systemctl enable -q --now {UNIT}", timeout_s=PYTHON_S)
