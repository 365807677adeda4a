"""The resident's heartbeat for what has to go on without it, and its word when it stops in order."""

from pathlib import Path

import pytest

from machine import kept
from tests.agent.brokers import AgentProcess, free_port, wait_for


def test_it_beats_where_something_is_kept_and_says_when_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RACKHAND_RUN", str(tmp_path / "run"))
    monkeypatch.setattr(kept, "RUN", tmp_path / "run")
    first = AgentProcess(tmp_path / "state", free_port())
    wait_for((tmp_path / "state/spool.db").exists)
    assert not kept.RUN.exists(), "where nothing was ever kept it leaves no trace"
    kept.RUN.mkdir()
    wait_for(lambda: kept.heartbeat() == "well")
    first.kill()
    assert kept.heartbeat() == "well", "killed: it is silent from now on"

    (kept.RUN / "heartbeat").unlink()
    second = AgentProcess(tmp_path / "state", free_port())
    wait_for(lambda: kept.heartbeat() == "well")
    assert second.stop() == 0
    assert kept.heartbeat() == kept.STOPPED
