"""What the resident agent reports never overwrites what a person on the host did meanwhile."""

from pathlib import Path

from agent.documents import Documents, undone
from agent.tuning import Tuning
from tests.agent.space import WANTED, desired
from tuners.hostfacts import HostFacts
from wire.policy import Outcome, OutcomeStatus, Reported, ReportedStatus
from wire.report import Event


def resident(state: Path) -> tuple[list[Event], list[Reported], Tuning]:
    """Its events, its reports and itself."""
    told: list[Event] = []
    published: list[Reported] = []
    publish, tell = published.append, told.append
    tuning = Tuning(
        state, host_id="host-1", start="s", observe=False, peers=[], tell=tell, publish=publish, ended=lambda: None
    )
    return told, published, tuning


def test_facts_from_before_a_rollback_by_hand_say_nothing(tmp_path: Path) -> None:
    _, published, tuning = resident(tmp_path)
    tuning.offer(desired(WANTED, 1))
    outcome = Outcome(knob="channels", nic="va", status=OutcomeStatus.REVERTED)
    undone(Documents(tmp_path), [outcome], "00000001-aaaaaa")
    began_ms = tuning.ended_ms
    tuning.look(HostFacts([]), connected=True)
    assert (published[-1].status, published[-1].outcomes) == (ReportedStatus.REVERTED, [outcome])
    assert tuning.ended_ms > began_ms, "facts are read again before they are compared"


def test_a_rollback_by_hand_is_not_overwritten_by_what_was_found_out_before_it(tmp_path: Path) -> None:
    told, published, tuning = resident(tmp_path)
    tuning.offer(desired(WANTED, 1))
    assert [one.status for one in published] == [ReportedStatus.PENDING]
    outcome = Outcome(knob="channels", nic="va", status=OutcomeStatus.REVERTED)
    assert undone(Documents(tmp_path), [outcome], "00000001-aaaaaa")  # as `rackhand-agent rollback` does

    tuning.offer(desired(WANTED, 2))  # has something to report of its own
    assert published[-1].status is ReportedStatus.REVERTED
    assert published[-1].outcomes == [outcome]
    assert [event.kind for event in told][-1] == "policy.reverted"
    assert Documents(tmp_path).reported == published[-1]
