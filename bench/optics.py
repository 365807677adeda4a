"""Decoding of transceivers' EEPROMs: whole, and the monitors of one poll, beside pyroute2's and an ethtool process.

The dumps are those of RACKHAND_SFP_DATA, else of ../shared/data/sfp. Reading them from a module is not in it: its bus
takes about 12 ms for 128 bytes.
"""

import collections
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from pyroute2.ethtool import module_info

from collectors.transceiver import fact as facts
from collectors.transceiver import readings, reads
from collectors.transceiver.cage import samples
from collectors.transceiver.decode import decode
from collectors.transceiver.image import A0, A2, LOWER, Image, arrange, read_layout
from collectors.transceiver.says import Module

AIMS_US = {"sff8472": 200, "sff8636": 200, "cmis": 700}
POLL_AIM_US = 50
ROUNDS = 30


def folder() -> Path:
    """Where the dumps lie."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "sfp"
    return Path(os.environ.get("RACKHAND_SFP_DATA", beside))


def median_us(work: Callable[[], object]) -> float:
    """Of `ROUNDS` calls after one that warms up, in microseconds."""
    work()
    taken: list[float] = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begun) * 1e6)
    return statistics.median(taken)


def load() -> list[tuple[Image, Module]]:
    """Every dump with its layout, decoded."""
    found: list[tuple[Image, Module]] = []
    for path in sorted(folder().rglob("*.bin")):
        layout = read_layout(path.with_suffix(".json").read_bytes())
        image = arrange(path.read_bytes(), layout)
        found.append((image, decode(image, layout.family)))
    return found


def whole_us(image: Image, module: Module) -> float:
    """Decode, judge, make the fact: what a module costs when it is inserted."""

    def work() -> None:
        again = decode(image, module.family)
        facts.optics(again, "nic", "eth0", readings.believed(again))

    return median_us(work)


def poll_us(image: Image, module: Module, *, reported: bool) -> float | None:
    """Decode monitors and flags, with `reported` make the samples too; None for a module that has none."""
    trusted = readings.believed(module)
    runs = reads.monitor_reads(module)
    if not trusted.monitors or not runs:
        return None
    blocks = {(run.address, run.bank, run.page): image.block(run.page, run.bank, run.address) for run in runs}
    if not all(len(blocks[run.address, run.bank, run.page]) >= run.offset + run.length for run in runs):
        return None

    def work() -> None:
        now = reads.fresh(module, blocks)
        if reported:
            facts.is_same(module, now)
            collections.deque(samples("nic", now, trusted), maxlen=0)

    return median_us(work)


def pyroute2_us(image: Image) -> float | None:
    """What pyroute2 takes for the SFPs that it can decode."""
    a0, a2 = image.block(LOWER), image.block(LOWER, address=A2)
    if len(a0) < 128 or len(a2) < 128:
        return None
    parser = module_info.ModuleInfoParser(None, "eth0")

    low = a0 + image.block(0, address=A0).ljust(128, b"\0")
    both = tuple(low + a2 + image.block(0, address=A2).ljust(128, b"\0"))

    def work() -> None:
        parser.parse_sff8079_page0(both[:256])
        parser.parse_sff8079_page2(both)

    try:
        return median_us(work)
    except Exception:  # noqa: BLE001 - what it makes of a real module's bytes is its affair
        return None


def line(name: str, taken: list[float], aim: float | None = None) -> None:
    """Least, median and most, beside what was aimed at."""
    if taken:
        aimed = f"   aim {aim:g}" if aim else ""
        values = f"{min(taken):8.1f} {statistics.median(taken):8.1f} {max(taken):8.1f}"
        print(f"  {name:<34} {len(taken):4d} {values}{aimed}")


def main() -> None:
    """Print microseconds per module."""
    modules = load() if folder().is_dir() else []
    if not modules:
        print(f"no dumps in {folder()} (RACKHAND_SFP_DATA)")
        return
    print(f"  {'microseconds per module':<34} {'n':>4} {'least':>8} {'median':>8} {'most':>8}")
    for family, aim in AIMS_US.items():
        of = [(image, module) for image, module in modules if module.family == family]
        line(f"{family}, whole", [whole_us(*one) for one in of], aim)
        plain = [one for one in of if not one[1].vdm]
        polls = {"a poll decoded": (of, False), "a poll with its samples": (of, True)}
        if len(plain) < len(of):
            polls["a poll decoded, no VDM"] = (plain, False)
        for name, (chosen, reported) in polls.items():
            polled = [poll_us(*one, reported=reported) for one in chosen]
            line(f"{family}, {name}", [taken for taken in polled if taken], None if reported else POLL_AIM_US)
    line("sff8472, pyroute2", [taken for image, _ in modules if (taken := pyroute2_us(image))])
    if shutil.which("ethtool"):
        spawn = median_us(lambda: subprocess.run(["ethtool", "--version"], check=True, capture_output=True))
        line("an ethtool process, decoding nothing", [spawn])
