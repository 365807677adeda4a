"""What `rackhand-agent events` takes on the command line; apart, for every other verb reads this too."""

import argparse
from pathlib import Path


def events_options(events: argparse.ArgumentParser) -> None:
    """--follow and --raw, `simulate` and `replay`."""
    events.add_argument("--follow", action="store_true", help="what happens on this machine, until Ctrl-C; no broker")
    events.add_argument("--raw", action="store_true", help="with --follow: before rules and damping, to replay later")
    what = events.add_subparsers(dest="what", metavar="WHAT")
    simulate = what.add_parser("simulate", help="send an event that did not happen through rules and hooks")
    simulate.add_argument("kind", metavar="KIND", help="as link.down")
    simulate.add_argument("--key", default="", help="of the component")
    simulate.add_argument("--severity", choices=("info", "warning", "critical"), default="warning")
    simulate.add_argument("--text", default="", help="one line")
    simulate.add_argument("--data", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    replay = what.add_parser("replay", help="say what rules, damping and hooks would make of recorded events")
    replay.add_argument("file", type=Path, help="lines of JSON, from --follow -o json or `rackhand events -o json`")
    for one in (simulate, replay):
        one.add_argument("-o", "--output", choices=("text", "json"), default=argparse.SUPPRESS)
