"""Commands of this machine, run to their end."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from hardware_lab.failure import LabError


def run(argv: Sequence[str], *, stdin: bytes = b"", cwd: Path | None = None) -> str:
    """Standard output; raises LabError with the exit code and the last lines that were said."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, cwd=cwd, check=False)
    except OSError as error:
        raise LabError(f"{argv[0]}: {error.strerror}; `rackhand-lab setup` installs what the lab needs") from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise LabError(f"{argv[0]} ended with {done.returncode}: {' / '.join(said[-4:])}")
    return done.stdout.decode(errors="replace")


def answers(argv: Sequence[str]) -> str:
    """Standard output of a question whose failure is an answer too: ""."""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
