"""What `doctor` says of collectors that may not read what they need, in a process without rights."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent import doctor
from collectors.about import About

NOBODY = 65534


def unprivileged() -> list[str]:
    """The lines of a child that gave up all its rights."""
    readable, writable = os.pipe()
    if not (child := os.fork()):
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        lines = [f"{check.name}|{check.verdict}|{check.text}|{check.remedy}" for check in doctor.collectors()]
        os.write(writable, "\n".join(lines).encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as said:
        text = said.read()
    assert os.waitpid(child, 0)[1] == 0
    return text.splitlines()


@pytest.mark.root
def test_a_collector_that_may_not_read_is_named_with_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).touch(mode=0o600)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    secret = SimpleNamespace(NAME="secret", ABOUT=About("x", "y", privileges="root", needs=(f"{tmp_path}/*",)))
    absent = SimpleNamespace(NAME="absent", ABOUT=About("x", "y", privileges="root", needs=(f"{tmp_path}/no/*",)))
    monkeypatch.setattr(doctor, "ALL", (secret, absent))
    assert list(doctor.collectors()) == [], "root may"
    found = unprivileged()
    assert len(found) == 1
    assert found[0].startswith(f"collector secret|absent|may not read {tmp_path}/")
    assert found[0].endswith(" and 1 more|needs root")
