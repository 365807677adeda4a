"""Every fuzzer of `tests/fuzz`, for a moment: it runs, and what it has always found is nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

FUZZERS = sorted((Path(__file__).parent / "fuzz").glob("*.py"))
RUNS = 3000


def test_there_are_fuzzers() -> None:
    assert {path.stem for path in FUZZERS} >= {"optics", "lldp", "ipmi", "snmp", "drives"}


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="atheris has no build for this Python")
@pytest.mark.parametrize("path", FUZZERS, ids=lambda path: path.stem)
def test_a_moment_of_fuzzing_finds_nothing(path: Path, tmp_path: Path) -> None:
    """The seed is fixed: what a longer run finds becomes a test of its own."""
    argv = [sys.executable, str(path), f"-atheris_runs={RUNS}", "-max_total_time=20", "-seed=1", "-timeout=10"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done " in done.stderr
