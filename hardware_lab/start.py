"""The `rackhand-lab` command: where the lab's libraries are not installed, it says so in one line."""

import sys


def main() -> None:
    """Run the command line; exit code 1 and what to install where its libraries are not."""
    try:
        from hardware_lab.cli import main as run  # noqa: PLC0415 - the import is what can fail
    except ModuleNotFoundError as error:
        sys.exit(f"rackhand-lab: {error.name} is not installed here: pip install 'rackhand[lab]'")
    run()
