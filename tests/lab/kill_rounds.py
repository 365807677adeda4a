"""Runs in the guest: a transaction killed at random points, and what the NIC is like each time; JSON a line."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from agent import journal

IFNAME, DESIRED, STATE, POINTS, SEED = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
LOOK = f"""
ethtool -l {IFNAME}; ethtool -g {IFNAME}; ethtool -c {IFNAME} | grep -v Adaptive
grep -H . /sys/class/net/{IFNAME}/queues/*/[rx]ps_cpus
for irq in $(awk -F: '/{IFNAME}/{{print $1+0}}' /proc/interrupts); do
    echo $(ls /proc/irq/$irq | grep {IFNAME}) $(cat /proc/irq/$irq/smp_affinity_list)
done | sort
"""
if sys.argv[6:] == ["wide"]:  # with what else that NIC has
    LOOK += f"""
ethtool -k {IFNAME}; ethtool -a {IFNAME}; ethtool -x {IFNAME}; ethtool -n {IFNAME} rx-flow-hash udp4
ip -o link show {IFNAME} | grep -Eo '(mtu|qlen) [0-9]+'
grep -H . /sys/class/net/{IFNAME}/threaded /sys/class/net/{IFNAME}/napi_defer_hard_irqs
grep -H . /sys/class/net/{IFNAME}/gro_flush_timeout
tc qdisc show dev {IFNAME}
"""


def look() -> str:
    """All that the transaction changes, as the kernel says it."""
    return subprocess.run(["sh", "-c", LOOK], check=True, capture_output=True, text=True).stdout


def tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


def run(*words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.PIPE, start_new_session=True)


def transaction() -> "subprocess.Popen[bytes]":
    """One whose journal has appeared."""
    known = len(journal.paths(STATE))
    process = run("agent.transaction", "--state", str(STATE), "--desired", DESIRED, "--confirm", "self")
    while len(journal.paths(STATE)) == known and process.poll() is None:
        time.sleep(0.005)
    return process


def state() -> str:
    """How the last journal stands; "bare" for one that announced no write."""
    story = journal.read(journal.paths(STATE)[-1])
    return story.state.value if story and story.stages else "bare"


def settle() -> str:
    until = time.monotonic() + 120
    while state() in ("open", "reverting") and time.monotonic() < until:
        time.sleep(0.05)
    return state()


def roll_back() -> None:
    subprocess.run(
        [sys.executable, "-m", "agent.deadman", "rollback", str(STATE)], check=True, stdout=subprocess.DEVNULL
    )


def main() -> None:
    before = look()
    process = transaction()
    started = time.monotonic()
    process.communicate()
    took, after = time.monotonic() - started, look()
    roll_back()
    undone = look()
    tell(took=took, differs=before != after, undone=undone, before=before, after=after)
    chance = random.Random(SEED)  # noqa: S311 - no secret
    for point in range(POINTS):
        process = transaction()
        time.sleep(chance.uniform(0, 1.1 * took))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        end, now = settle(), look()
        tell(point=point, end=end, is_before=now == before, is_after=now == after, now=now)
        if end == "committed":
            roll_back()


if __name__ == "__main__":
    main()
