"""Random points of death on a real driver: the NIC is fully before or fully after, undone under systemd."""

import collections
import json
import os
import random
from pathlib import Path

import pytest

from tests.lab.conftest import MANY, Bench

pytestmark = [pytest.mark.lab, pytest.mark.root]
SOAK = int(os.environ.get("RACKHAND_SOAK", "1"))  # make lab-soak
FEW = 25
POINTS = int(os.environ.get("RACKHAND_POINTS", "0")) or (200 if SOAK > 1 else FEW)
ROUNDS = Path(__file__).with_name("kill_rounds.py")
NARROW = MANY + "  xps: {{mode: auto}}\n"
WIDE = (
    MANY
    + """
  xps: {{mode: auto}}
  rps: {{mode: auto}}
  offloads: {{gro: true, tso: false, rx-gro-list: true}}
  link: {{mtu: 1400, pause_rx: false}}
  rss: {{weights: "3 1", udp4: sdfn}}
  napi: {{defer_hard_irqs: 10, gro_flush_timeout_ns: 20000, threaded: true}}
  qdisc: {{discipline: fq, txqueuelen: 2000}}
  timestamping: {{rx: all}}
"""
)  # all of the knobs that this NIC has
POLICY = NARROW if POINTS == FEW else WIDE
# What `rackhand-agent apply` hands to its transaction
COMPILE = """
from pathlib import Path
from agent import local
from agent.config import Config
from machine.live import Live
from wire.codec import encode
compiled = local.compile_file(Path("/root/policy.yaml"), Config(), Live())
Path("/root/desired.json").write_bytes(encode(local.document(compiled, "host", 60)))
"""


def test_killed_at_random_points(server: Bench) -> None:
    ifname = server.nic(0)
    server.guest.run(f"ip link set {ifname} up")
    server.guest.run("cat > /root/policy.yaml", stdin=POLICY.format(ifname=ifname).encode())
    server.python(COMPILE)
    server.guest.put(ROUNDS, "/root")
    seed = int(os.environ.get("RACKHAND_SEED", str(random.randrange(1 << 32))))  # noqa: S311
    print(f"RACKHAND_SEED={seed}")
    argv = f"/opt/rackhand/bin/python /root/kill_rounds.py {ifname} /root/desired.json /root/state {POINTS} {seed}"
    argv += " wide" * (POLICY is WIDE)
    said = server.guest.run(argv, timeout_s=3000 * SOAK)
    first, *points = [json.loads(line) for line in said.splitlines()]
    assert first["differs"]
    assert first["undone"] == first["before"]
    ends = collections.Counter(point["end"] for point in points)
    print(f"{first['took']:.1f} s from the journal to the end; {dict(ends)}")
    assert len(points) == POINTS
    for point in points:
        right = point["is_after"] if point["end"] == "committed" else point["is_before"]
        assert right, f"point {point['point']}, seed {seed}: {point['end']}, {point['now']}, before {first['before']}"
    assert set(ends) <= {"reverted", "committed", "bare"}
    assert ends["reverted"] > 0, "a point between the first write and the commit"
    units = server.guest.run("journalctl -o cat -u 'rackhand-deadman-*' | grep -c '^Started'")
    assert int(units) >= POINTS - ends["bare"]  # some die before they arm it
