"""The agent as a process, against real brokers and a real namespace's NIC."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import status
from agent.config import Config
from tests.agent.brokers import AgentProcess, BrokerProcess, Inventory, mosquitto, wait_for
from tests.agent.space import NIC, WANTED, Space
from wire import codec
from wire.policy import Desired, Mode, Outcome, OutcomeStatus, Reported, ReportedStatus, Request, Setting, content_hash
from wire.report import Ack, Command
from wire.topics import Channel


class Start:
    """Starts agents on one state directory and broker."""

    def __init__(self, state: Path, port: int) -> None:
        self.state = state
        self.port = port
        self.made: list[AgentProcess] = []

    def __call__(self, *arguments: str) -> AgentProcess:
        self.made.append(AgentProcess(self.state, self.port, *arguments))
        return self.made[-1]


@pytest.fixture
def start(broker: BrokerProcess, tmp_path: Path) -> Iterator[Start]:
    made = Start(tmp_path / "state", broker.port)
    yield made
    for agent in made.made:
        agent.kill()


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Space]:
    made = Space(tmp_path / "state")
    made.ip("link set lo up")
    yield made
    made.close()


class Site:
    """A namespace with a broker, an agent and an inventory in it."""

    def __init__(self, space: Space, folder: Path, *arguments: str) -> None:
        self.space = space
        self.broker = BrokerProcess("mosquitto" if mosquitto() else "amqtt", folder, inside=space)
        self.agent = AgentProcess(space.state, self.broker.port, *arguments, inside=space)
        self.inventory: Inventory = space.run(lambda _: Inventory(self.broker.port, self.agent.host_id))
        self.inventory.acking = True
        wait_for(lambda: self.inventory.seen[Channel.BIRTH])

    def ask(self, verb: str, name: str = "") -> None:
        self.inventory.say(Channel.CMD, codec.encode(Command(verb=verb)), name=name or f"c-{verb}")

    def want(self, generation: int, settings: list[Setting], confirm_s: int = 30) -> Desired:
        made = document(self.agent.host_id, generation, settings, confirm_s)
        self.inventory.say(Channel.DESIRED, codec.encode(made), retain=True)
        return made

    def reported(self, generation: int, status: ReportedStatus, after: int = 0) -> Reported:
        def found() -> Any:
            reports = self.inventory.seen[Channel.REPORTED][after:]
            return [one for one in reports if one.generation == generation and one.status is status]

        try:
            last: Reported = wait_for(found, 60)[-1]
        except AssertionError:
            seen = [(one.generation, str(one.status), one.reason) for one in self.inventory.seen[Channel.REPORTED]]
            raise AssertionError(f"{seen}\n{(self.space.state / 'agent.log').read_text()}") from None
        return last

    def close(self) -> None:
        self.agent.kill()
        self.inventory.close()
        self.broker.kill()


@pytest.fixture
def site(space: Space, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def begin(*arguments: str) -> Site:
        made.append(Site(space, tmp_path, *arguments))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def document(host_id: str, generation: int, settings: list[Setting], confirm_s: int = 30) -> Desired:
    return Desired(
        host_id=host_id,
        generation=generation,
        hash=content_hash(settings),
        settings=settings,
        confirm_s=confirm_s,
    )


def by_knob(outcomes: list[Outcome]) -> dict[str, str]:
    return {outcome.knob: str(outcome.status) for outcome in outcomes}


def start_over(start: Start, rows: int) -> AgentProcess:
    """The agent that ran is killed once that many rows wait, and another one started."""
    running = start.made[-1]
    wait_for(lambda: waiting(running) >= rows)
    running.kill()
    return start()


def waiting(agent: AgentProcess) -> int:
    return status.read(Config(state_dir=str(agent.state))).rows


def numbers(inventory: Inventory) -> set[int]:
    return {row.seq for row in inventory.rows()}


@pytest.mark.broker
def test_says_who_it_is_reports_and_trims_only_on_ack(broker: BrokerProcess, start: Start) -> None:
    agent = start()
    inventory = Inventory(broker.port, agent.host_id)
    birth = wait_for(lambda: inventory.seen[Channel.BIRTH])[0]
    assert (birth.host_id, birth.observe, birth.generation) == (agent.host_id, True, 0)
    assert {"nic", "load"} <= set(birth.collectors)
    assert {"rings", "xps"} <= set(birth.tuners)
    assert wait_for(lambda: inventory.seen[Channel.STATE])[0].online
    wait_for(lambda: waiting(agent) > 3 and len(inventory.rows()) > 3)
    row = inventory.rows()[0]
    for_a_clone = Ack(host_id=agent.host_id, epoch=row.epoch, seq=row.seq + 2, start="another-process")
    inventory.say(Channel.ACK, codec.encode(for_a_clone))
    held = waiting(agent)
    wait_for(lambda: waiting(agent) > held)
    inventory.acking = True
    wait_for(lambda: len(inventory.rows()) > 3 and waiting(agent) == 0)
    collectors = {run.collector for row in inventory.rows() for run in row.runs}
    assert {"nic", "nicstats", "cpu", "hwmon"} <= collectors
    assert agent.stop() == 0
    wait_for(lambda: not inventory.seen[Channel.STATE][-1].online)
    inventory.close()


@pytest.mark.broker
def test_resident_process_holds_nothing_it_does_not_use(broker: BrokerProcess, start: Start) -> None:
    agent = start()
    inventory = Inventory(broker.port, agent.host_id)
    wait_for(inventory.rows)
    maps = Path(f"/proc/{agent.process.pid}/maps").read_text()
    for library in ("libssl", "libcrypto", "_yaml", "_asyncio"):
        assert library not in maps
    inventory.close()


@pytest.mark.broker
def test_outage_is_replayed_whole(broker: BrokerProcess, start: Start) -> None:
    agent = start()
    wait_for(lambda: waiting(agent) > 2)
    broker.kill()
    held = waiting(agent)
    wait_for(lambda: waiting(agent) > held + 5)
    broker.start()
    inventory = Inventory(broker.port, agent.host_id)
    inventory.acking = True
    wait_for(lambda: len(numbers(inventory)) > held + 5 and waiting(agent) < 3, 60)
    assert numbers(inventory) == set(range(1, max(numbers(inventory)) + 1))
    inventory.close()


@pytest.mark.broker
def test_kill_9_and_again_loses_no_row(broker: BrokerProcess, start: Start) -> None:
    inventory = Inventory(broker.port, start().host_id)
    for rows in (3, 6, 9):
        agent = start_over(start, rows)
    inventory.acking = True
    wait_for(lambda: len(numbers(inventory)) > 9 and waiting(agent) == 0, 60)
    assert numbers(inventory) == set(range(1, max(numbers(inventory)) + 1))
    assert len({row.epoch for row in inventory.rows()}) == 1
    inventory.close()


@pytest.mark.broker
def test_commands_are_done_once_and_answered(broker: BrokerProcess, start: Start) -> None:
    agent = start()
    inventory = Inventory(broker.port, agent.host_id)
    inventory.acking = True
    wait_for(inventory.rows)

    def ask(verb: str, name: str) -> Any:
        inventory.say(Channel.CMD, codec.encode(Command(verb=verb)), name=name)
        wait_for(lambda: name in inventory.names)
        return inventory.seen[Channel.RESULT][inventory.names.index(name)]

    def with_dmi() -> int:
        return sum(run.facts is not None for row in inventory.rows() for run in row.runs if run.collector == "dmi")

    births, facts = len(inventory.seen[Channel.BIRTH]), with_dmi()
    assert ask("rebirth", "c-1").ok
    wait_for(lambda: len(inventory.seen[Channel.BIRTH]) > births)
    wait_for(lambda: with_dmi() > facts)
    refused = ask("explode", "c-2")
    assert (refused.ok, "unknown verb" in refused.text) == (False, True)
    refused = ask("rollback", "c-3")
    assert (refused.ok, "no committed transaction" in refused.text) == (False, True)
    inventory.say(Channel.CMD, codec.encode(Command(verb="collect")), name="c-1")
    assert ask("collect", "c-4").ok
    assert inventory.names.count("c-1") == 1
    inventory.close()


@pytest.mark.broker
def test_documents_that_are_refused(broker: BrokerProcess, start: Start) -> None:
    agent = start()
    inventory = Inventory(broker.port, agent.host_id)
    good = document(agent.host_id, 5, [])
    older = document(agent.host_id, 4, [])
    wait_for(lambda: inventory.seen[Channel.BIRTH])
    wrong = Desired(host_id=agent.host_id, generation=6, hash="0" * 64, settings=WANTED)
    for one in (good, older, wrong):
        inventory.say(Channel.DESIRED, codec.encode(one))
    wait_for(lambda: len(inventory.events("policy.refused")) == 2)
    texts = " ".join(event["text"] for event in inventory.events("policy.refused"))
    assert "generation 4 is older than 5" in texts
    assert "generation 6: its hash is not that of its settings" in texts
    wait_for(lambda: inventory.seen[Channel.REPORTED])
    assert {one.generation for one in inventory.seen[Channel.REPORTED]} == {5}
    agent.kill()
    births = len(inventory.seen[Channel.BIRTH])
    again = start()
    wait_for(lambda: len(inventory.seen[Channel.BIRTH]) > births)
    inventory.say(Channel.DESIRED, codec.encode(older))
    wait_for(lambda: len(inventory.events("policy.refused")) > 2)
    assert again.host_id == agent.host_id
    inventory.close()


@pytest.mark.broker
def test_second_agent_on_the_same_state_is_refused(start: Start) -> None:
    agent = start()
    other = AgentProcess(agent.state, 1)
    assert other.process.wait(30) == 4
    other.kill()


@pytest.mark.root
@pytest.mark.broker
def test_observing_plans_and_changes_nothing(site: Callable[..., Site], space: Space) -> None:
    here = site()
    before = space.snapshot()
    here.want(1, WANTED)
    reported = here.reported(1, ReportedStatus.DRIFTED)
    assert by_knob(reported.outcomes)["channels"] == "warned"
    assert next(one for one in reported.outcomes if one.knob == "channels").changes
    assert space.snapshot() == before


@pytest.mark.root
@pytest.mark.broker
def test_applied_drifted_applied_again_rolled_back(site: Callable[..., Site], space: Space) -> None:
    here = site("--no-observe")
    before = space.snapshot()
    here.want(1, WANTED)
    applied = here.reported(1, ReportedStatus.APPLIED)
    assert by_knob(applied.outcomes)["channels"] == "applied"
    after = space.snapshot()
    assert after != before
    count = len(here.inventory.seen[Channel.REPORTED])
    space.run(lambda writer: writer.request(Request("channels", {}, {"rx": 3, "tx": 4}, space.ifindex())))
    here.reported(1, ReportedStatus.DRIFTED, count)
    here.reported(1, ReportedStatus.APPLIED, count)
    assert space.snapshot() == after
    count = len(here.inventory.seen[Channel.REPORTED])
    here.ask("rollback")
    reverted = here.reported(1, ReportedStatus.REVERTED, count)
    assert OutcomeStatus.REVERTED in {one.status for one in reverted.outcomes}
    undone = space.snapshot()
    assert undone[0]["channels"]["rx"] == 3
    here.ask("collect", "c-2")
    wait_for(lambda: "c-2" in here.inventory.names)
    assert space.snapshot() == undone
    kinds = {kind for kind in ("policy.verified", "policy.applied", "policy.drifted") if here.inventory.events(kind)}
    assert kinds == {"policy.verified", "policy.applied", "policy.drifted"}


@pytest.mark.root
@pytest.mark.broker
def test_without_an_ack_it_is_undone(site: Callable[..., Site], space: Space) -> None:
    here = site("--no-observe")
    before = space.snapshot()
    here.inventory.acking = False
    here.want(1, WANTED, confirm_s=4)
    reverted = here.reported(1, ReportedStatus.REVERTED)
    assert "not confirmed" in reverted.reason
    assert space.snapshot() == before


@pytest.mark.root
@pytest.mark.broker
def test_warn_and_yield(site: Callable[..., Site], space: Space) -> None:
    here = site("--no-observe")
    settings = [
        Setting(knob="channels", nic=NIC, values={"rx": 2, "tx": 2}, mode=Mode.YIELD),
        Setting(knob="offloads", nic=NIC, values={"tso": False}, mode=Mode.WARN),
    ]
    here.want(1, settings)
    first = here.reported(1, ReportedStatus.DRIFTED)
    assert by_knob(first.outcomes) == {"channels": "applied", "offloads": "warned"}
    space.run(lambda writer: writer.request(Request("channels", {}, {"rx": 3, "tx": 3}, space.ifindex())))
    wait_for(lambda: by_knob(here.inventory.seen[Channel.REPORTED][-1].outcomes).get("channels") == "yielded")
    assert space.snapshot()[0]["channels"]["rx"] == 3


@pytest.mark.root
@pytest.mark.broker
def test_link_changes_are_events(site: Callable[..., Site], space: Space) -> None:
    here = site()
    space.ip(f"link set {NIC} down")
    assert wait_for(lambda: [e for e in here.inventory.events("link.down") if e["data"]["ifname"] == NIC])
    space.ip(f"link set {NIC} up")
    assert wait_for(lambda: [e for e in here.inventory.events("link.up") if e["data"]["ifname"] == NIC])
    space.ip("link add gone0 type veth peer name gone9")
    wait_for(lambda: [e for e in here.inventory.events("link.added") if e["data"]["ifname"] == "gone0"])
    space.ip("link set gone0 name gone1")
    wait_for(lambda: here.inventory.events("link.renamed"))
    space.ip("link del gone1")
    removed = wait_for(lambda: here.inventory.events("link.removed"))
    assert "gone1" in {event["data"]["ifname"] for event in removed}
