"""Which documents are acted on, and what present facts say of them."""

import contextlib
import subprocess
from pathlib import Path

import pytest

from agent import drift
from agent.documents import Documents, RefusedError, undone
from agent.tuning import Tuning
from tuners.hostfacts import HostFacts
from wire.facts import Ethtool, Nic
from wire.policy import (
    Change,
    Desired,
    Mode,
    Outcome,
    OutcomeStatus,
    Reported,
    ReportedStatus,
    Request,
    Setting,
    content_hash,
)
from wire.report import Event

KEY = "52:54:00:00:00:01"


def document(generation: int, *settings: Setting) -> Desired:
    return Desired(host_id="h", generation=generation, hash=content_hash(settings), settings=list(settings))


def rings(rx: int, mode: Mode = Mode.ENFORCE) -> Setting:
    return Setting(knob="rings", nic=KEY, values={"rx": rx}, mode=mode)


def facts(rx: int) -> HostFacts:
    nic = Nic(key=KEY, ifname="eth0", ifindex=2, bus="pci", type="physical")
    return HostFacts([nic, Ethtool(key=KEY, ifname="eth0", ifindex=2, rings={"rx": rx, "rx_max": 4096})])


def reported(desired: Desired, *outcomes: Outcome) -> Reported:
    return Reported(
        host_id="h",
        start="s",
        generation=desired.generation,
        hash=desired.hash,
        status=ReportedStatus.APPLIED,
        at_ms=1,
        outcomes=list(outcomes),
    )


def test_newer_is_kept_on_disk_equal_is_idempotent_older_is_refused(tmp_path: Path) -> None:
    documents = Documents(tmp_path)
    assert documents.accept(document(2, rings(512)))
    assert not documents.accept(document(2, rings(512)))
    with pytest.raises(RefusedError, match="generation 1 is older than 2"):
        documents.accept(document(1))
    with pytest.raises(RefusedError, match="generation 2 is known with another content"):
        documents.accept(document(2, rings(1024)))
    again = Documents(tmp_path)
    assert again.desired == document(2, rings(512))
    with pytest.raises(RefusedError, match="older"):
        again.accept(document(1))


def test_wrong_hash_is_refused(tmp_path: Path) -> None:
    documents = Documents(tmp_path)
    with pytest.raises(RefusedError, match="hash"):
        documents.accept(Desired(host_id="h", generation=1, hash="0", settings=[rings(512)]))
    assert documents.desired is None


def test_older_is_refused_even_when_the_document_was_lost(tmp_path: Path) -> None:
    documents = Documents(tmp_path)
    desired = document(7, rings(512))
    documents.accept(desired)
    documents.report(reported(desired))
    (tmp_path / "desired.json").write_bytes(b"\0" * 10)
    again = Documents(tmp_path)
    assert (again.desired, again.generation) == (None, 7)
    with pytest.raises(RefusedError, match="older than 7"):
        again.accept(document(6))
    assert again.accept(desired)


def statuses(outcomes: list[Outcome]) -> list[OutcomeStatus]:
    return [outcome.status for outcome in outcomes]


def outcome(status: OutcomeStatus, *, tried: bool = True) -> Outcome:
    op = Request("rings", {"rx": 256}, {"rx": 512}, 2, "eth0")
    changes = [Change(knob="rings", target="eth0", op=op, nic=KEY)] if tried else []
    return Outcome(knob="rings", nic=KEY, status=status, changes=changes)


CASES = [
    # mode, what was reported, ring as it is, observe, what it comes to
    (Mode.ENFORCE, None, 256, False, OutcomeStatus.DRIFTED),
    (Mode.ENFORCE, None, 512, False, OutcomeStatus.UNCHANGED),
    (Mode.ENFORCE, outcome(OutcomeStatus.APPLIED), 512, False, OutcomeStatus.APPLIED),
    (Mode.ENFORCE, outcome(OutcomeStatus.APPLIED), 256, False, OutcomeStatus.DRIFTED),
    (Mode.ENFORCE, outcome(OutcomeStatus.REVERTED), 256, False, OutcomeStatus.REVERTED),
    (Mode.ENFORCE, outcome(OutcomeStatus.FAILED), 256, False, OutcomeStatus.FAILED),
    (Mode.ENFORCE, outcome(OutcomeStatus.FAILED, tried=False), 256, False, OutcomeStatus.DRIFTED),
    (Mode.ENFORCE, outcome(OutcomeStatus.REFUSED, tried=False), 256, False, OutcomeStatus.REFUSED),
    (Mode.ENFORCE, None, 256, True, OutcomeStatus.WARNED),
    (Mode.WARN, None, 256, False, OutcomeStatus.WARNED),
    (Mode.YIELD, None, 256, False, OutcomeStatus.DRIFTED),
    (Mode.YIELD, outcome(OutcomeStatus.APPLIED), 256, False, OutcomeStatus.YIELDED),
    (Mode.YIELD, outcome(OutcomeStatus.YIELDED, tried=False), 256, False, OutcomeStatus.YIELDED),
    (Mode.YIELD, outcome(OutcomeStatus.YIELDED, tried=False), 512, False, OutcomeStatus.UNCHANGED),
]


@pytest.mark.parametrize(("mode", "before", "ring", "observe", "expected"), CASES)
def test_assess(mode: Mode, before: Outcome | None, ring: int, observe: bool, expected: OutcomeStatus) -> None:
    desired = document(1, rings(512, mode))
    earlier = reported(desired, before) if before else None
    found = drift.assess(desired, facts(ring), earlier, observe=observe)
    assert statuses(found) == [expected]
    assert drift.drifted(found) is (expected is OutcomeStatus.DRIFTED)


def test_a_nic_that_is_gone_is_told_and_picked_up_when_it_is_back() -> None:
    desired = document(1, rings(512))
    gone = drift.assess(desired, HostFacts([]), None, observe=False)
    assert not drift.drifted(gone)
    assert "no such NIC" in gone[0].reason
    back = drift.assess(desired, facts(256), reported(desired, *gone), observe=False)
    assert drift.drifted(back)


def test_what_was_undone_is_kept_so(tmp_path: Path) -> None:
    documents = Documents(tmp_path)
    desired = document(1, rings(512))
    documents.accept(desired)
    documents.report(reported(desired, outcome(OutcomeStatus.APPLIED)))
    undone(documents, [outcome(OutcomeStatus.REVERTED)], "tx-1")
    again = Documents(tmp_path)
    assert again.current is not None
    assert again.current.status is ReportedStatus.REVERTED
    assert not drift.drifted(drift.assess(desired, facts(256), again.current, observe=False))


@pytest.mark.root
def test_a_document_that_arrives_on_a_full_disk_is_kept_when_there_is_room(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(state)], check=True)
    try:
        told: list[Event] = []
        published: list[Reported] = []
        tuning = Tuning(
            state, host_id="h1", start="s1", observe=True, peers=[], tell=told.append, publish=published.append,
            ended=lambda: None,
        )  # fmt: skip
        (state / "filler").write_bytes(bytes(48 * 1024))
        with contextlib.suppress(OSError), (state / "rest").open("wb") as rest:
            while True:
                rest.write(bytes(512))
                rest.flush()
        tuning.offer(document(1, rings(512)))
        tuning.retry()
        assert tuning.documents.desired is None
        assert [(event.kind, "No space left" in event.text) for event in told] == [("policy.refused", True)]
        (state / "filler").unlink()
        tuning.retry()
        assert tuning.documents.desired == document(1, rings(512))
        assert [event.kind for event in told] == ["policy.refused", "policy.received"]
    finally:
        subprocess.run(["umount", str(state)], check=True)
