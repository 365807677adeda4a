"""`rackhand-lab` where something is missing, wrong or taken: one line that says what to do, and nothing left behind."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs

from hardware_lab import accelerator, cli, daemon, packages, qemu
from hardware_lab.failure import LabError
from hardware_lab.image import Image
from hardware_lab.lab import Lab
from hardware_lab.machine import Machine, Node

RACKHAND_LAB = Path(sys.executable).parent / "rackhand-lab"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and a folder of running labs that are empty."""
    monkeypatch.setenv("RACKHAND_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RACKHAND_LAB_RUN", str(tmp_path / "run"))
    monkeypatch.delenv("RACKHAND_LAB_IMAGE", raising=False)
    monkeypatch.delenv("RACKHAND_LAB", raising=False)
    return tmp_path


def said(*words: str) -> str:
    """The one line of a command that fails."""
    done = subprocess.run([RACKHAND_LAB, *words], check=False, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 1, done
    (line,) = done.stderr.splitlines()
    return line


def test_before_setup_it_says_what_to_run(places: Path) -> None:
    assert said("up") == "rackhand-lab: the guest image not here yet: make lab, or rackhand-lab setup"
    assert list((places / "run").glob("*")) == []


def test_a_lab_that_is_not_there(places: Path) -> None:
    for words in (["down"], ["status"], ["run", "srv1", "--", "true"], ["fault", "srv1", "cable-pull"], ["fleet"]):
        assert said(*words) == "rackhand-lab: there is no lab 'lab': rackhand-lab up"


def test_a_fault_and_a_server_that_are_not_there(places: Path) -> None:
    Lab.create("lab")
    assert said("fault", "srv1", "nonsense").startswith("rackhand-lab: no fault 'nonsense': agent-kill, ")
    assert said("run", "srv9", "true") == "rackhand-lab: no server 'srv9': the lab has none"
    assert said("fault", "srv1", "power-cut", "--end") == "rackhand-lab: power-cut ends by itself"
    assert said("fleet", "--broker", "nowhere") == "rackhand-lab: --broker 'nowhere' is not HOST:PORT"


def test_a_machine_file_that_is_wrong(places: Path) -> None:
    path = places / "machine.toml"
    path.write_text("nics = [{node = 5}]")
    line = said("up", "--machine", str(path))
    assert line == f"rackhand-lab: {path}: nics[0].node 5 is not there: 2 nodes"


def test_too_little_memory_is_told_before_anything_starts() -> None:
    large = structs.replace(Machine(), nodes=(Node(memory_mib=1 << 30),))
    with pytest.raises(
        LabError, match=r"^2 servers need \d+ MiB of memory, \d+ are available: fewer, or smaller ones$"
    ):
        cli._enough_memory(large, 2)
    cli._enough_memory(Machine(), 0)


def test_a_package_that_is_missing_is_named() -> None:
    assert packages.missing(["dpkg", "no-such-package-at-all"]) == ["no-such-package-at-all"]


def test_a_port_that_is_taken_is_told_and_nothing_runs_on(places: Path) -> None:
    lab = Lab.create("taken")
    with socket.socket() as other:
        other.bind(("127.0.0.1", lab.settings.broker))
        other.listen()
        with pytest.raises(
            LabError, match=rf"cannot listen on 127\.0\.0\.1:{lab.settings.broker}: Address already in use"
        ):
            lab.start_inventory()
    assert daemon.find(lab.folder, "inventory") is None
    lab.down()


def test_without_kvm_guests_are_emulated(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    chosen = accelerator.choose(Image(places))
    assert chosen == list(qemu.TCG)
    assert accelerator.is_slow(chosen)
    assert not accelerator.is_slow(list(qemu.KVM))


def test_a_kvm_on_which_no_guest_boots_is_found_out_once(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert accelerator.choose(Image(places)) == list(qemu.TCG), "there is no kernel to boot in that folder"
    (kept,) = (places / "cache").glob("kvm-*")
    assert kept.read_text() == "tcg"
    kept.write_text("kvm")
    assert accelerator.choose(Image(places)) == list(qemu.KVM)
