"""A preset planned and applied on the real kernel, on a veth pair in a network namespace of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = """
from collectors.run import collect_facts
from machine.change import LiveWriter
from tuners import engine
from tuners.hostfacts import HostFacts
from tuners.planner import plan
from tuners.policy import compile_settings, parse_policy
from tuners.about import Stage

NAMES = ("cpu", "numa", "nic", "ethtool", "irq", "queues", "softnet")
POLICY = '''
name: veth
nics: type=veth
preset: throughput
knobs: {rps: {mode: all}, channels: {combined: max}}
'''
writer = LiveWriter()
read = lambda: HostFacts(collect_facts(writer, NAMES))
settings = compile_settings([parse_policy(POLICY)], {}, read())
knobs = []
for stage in Stage:
    facts = read()
    changes = plan(settings, facts, stage).changes
    made = engine.apply(writer, changes, facts.nics, lambda: "")
    assert all(one.status == "applied" for one in made), made
    knobs += [change.knob for change in changes]
left = plan(settings, read()).changes
assert left == [], left
print(*dict.fromkeys(knobs))
"""


@pytest.fixture
def space() -> Iterator[str]:
    """A namespace with one end of a veth pair of four queues each way, up."""
    if os.geteuid() != 0:
        pytest.skip("makes a network namespace: needs root")
    name = f"tuners-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        queues = ["numtxqueues", "4", "numrxqueues", "4"]
        subprocess.run(
            ["ip", "-n", name, "link", "add", "va", *queues, "type", "veth", "peer", "name", "vb"], check=True
        )
        for end in ("va", "vb"):
            subprocess.run(["ip", "-n", name, "link", "set", end, "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.root
def test_a_preset_settles_on_a_real_nic(space: str, root: Path) -> None:
    argv = ["ip", "netns", "exec", space, sys.executable, "-c", PROGRAM]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert {"offloads", "rps"} <= set(done.stdout.split())
