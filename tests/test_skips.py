"""Skips are counted by reason at the end, and in CI as root they fail the run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """\
import pytest


@pytest.mark.parametrize("number", range(3))
def test_needs_a_thing(number):
    if number < 2:
        pytest.skip("the thing is not here")


@pytest.mark.skip(reason="another reason")
def test_other():
    pass
"""


def run(root: Path, folder: Path, ci: str) -> "subprocess.CompletedProcess[str]":
    shutil.copy(root / "tests" / "conftest.py", folder)
    (folder / "test_some.py").write_text(TESTS)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", str(folder)]
    environment = {**os.environ, "CI": ci, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_skips_are_counted_by_reason(root: Path, tmp_path: Path) -> None:
    done = run(root, tmp_path, "")
    assert done.returncode == 0, done.stdout
    for line in ("    2  the thing is not here", "    1  another reason", "    3  in all"):
        assert line in done.stdout.splitlines()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only a run as root fails for its skips")
def test_in_ci_a_skip_fails_the_run(root: Path, tmp_path: Path) -> None:
    assert run(root, tmp_path, "true").returncode == 1
