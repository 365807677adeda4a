"""Run every benchmark, or those named: `python -m bench [footprint] [ingest] [lab] [bmc] ...`."""

import sys
from collections.abc import Callable

from bench import bmc, footprint, ingest, lab, listing, optics, peers, pollers, steering, sweep, tuning, xdp

ALL: dict[str, Callable[[], None]] = {
    "footprint": footprint.main,
    "ingest": ingest.main,
    "listing": listing.main,
    "lab": lab.main,
    "bmc": bmc.main,
    "optics": optics.main,
    "pollers": pollers.main,
    "sweep": sweep.main,
    "tuning": tuning.main,
    "steering": steering.main,
    "peers": peers.main,
    "xdp": xdp.main,
}


def main(names: list[str]) -> None:
    """Run the named benchmarks, all when none is named."""
    unknown = sorted(set(names) - set(ALL))
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are: {', '.join(ALL)}")
    del sys.argv[1:]  # those were ours: a benchmark has options of its own
    for name in names or list(ALL):
        print(f"\n== {name}", flush=True)
        ALL[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
