"""One polled device as a host of the inventory: birth, state, reports, and the commands it is given."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from agent import VERSION
from agent.config import Broker, Replay
from agent.flow import Flow
from agent.link import Link, Received, Up
from agent.outbox import Outbox
from agent.rows import Changes
from agent.schedule import Ran
from agent.spool import event_row
from collectors.run import Result as Outcome
from pollers.schedule import Round
from pollers.target import Polled, Target
from wire.codec import encode
from wire.policy import Desired, Reported, ReportedStatus
from wire.report import Ack, Birth, Command, Event, Fingerprint, Priority, Report, Result, Severity, State, Status
from wire.topics import Channel

REMEMBERED = 256  # ids of commands that were done: QoS 1 may bring one twice
NOTHING = Polled([], [], [])
BANDS = {  # metric -> how far it may move unsaid, in its unit
    "snmp.temp_celsius": 0.5,
    "snmp.battery_celsius": 0.5,
    "snmp.humidity_percent": 1.0,
    "snmp.load_percent": 1.0,
    "snmp.frequency_hertz": 0.1,
    "snmp.fan_rpm": 50.0,
    **{f"{protocol}.temp_celsius": 1.0 for protocol in ("ipmi", "redfish")},
    **{f"{protocol}.fan_rpm": 50.0 for protocol in ("ipmi", "redfish")},
    **{f"{protocol}.system_watts": 5.0 for protocol in ("ipmi", "redfish")},
}
CATEGORY = {"ipmi": "bmc", "redfish": "bmc", "snmp": "device"}


class Place(NamedTuple):
    """Where devices are told of."""

    broker: Broker
    replay: Replay
    site: str
    start: str  # this process


class Presence:
    """Everything about one device that the inventory hears. Used by one thread, but for `wake`."""

    def __init__(
        self,
        target: Target,
        host_id: str,
        labels: dict[str, str],
        place: Place,
        *,
        wake: Callable[[], None],
        ask: Callable[[], None],
    ) -> None:
        self.target = target
        self.host_id = host_id
        self.labels = {"device": CATEGORY[target.protocol]} | labels
        self.online = False
        self.outbox = Outbox()
        self.link = Link(place.broker, site=place.site, host_id=host_id, start=place.start, wake=wake)
        self._own_labels = labels
        self._place = place
        self._flow = Flow(place.replay)
        self._changes = Changes(BANDS)
        self._lost_facts = 0
        self._sick = False
        self._ask = ask
        self._done: OrderedDict[str, None] = OrderedDict()

    # -- what is told --------------------------------------------------------------------------------------------------

    def note(self, ended: Round) -> None:
        """Keep what one poll gave, or that it failed."""
        polled = ended.polled or NOTHING
        for event in polled.events:
            event.at_ms = event.at_ms or ended.at_ms
        status = Status.OK if ended.polled else Status.FAILED
        told = (status, polled.facts, polled.samples, polled.events, ended.health.reason, ended.health.seconds * 1000)
        self._label(polled)
        self.outbox.append(self._changes.rows([Ran(self.target.protocol, ended.at_ms, Outcome(*told))]))
        self._tell_sickness(ended)
        if self.online != (not ended.health.reason):
            self.online = not ended.health.reason
            self._say_state()
        self.turn()

    def tell(self, event: Event) -> None:
        """Keep an event."""
        self.outbox.append([event_row(event)])
        self.turn()

    def _tell_sickness(self, ended: Round) -> None:
        sick = ended.health.state == "sick"
        if sick != self._sick:
            self._sick = sick
            text = f"given up for the time being, asked less often: {ended.health.reason}" if sick else "well again"
            kind, severity = ("device.sick", Severity.CRITICAL) if sick else ("device.well", Severity.INFO)
            self.outbox.append([event_row(Event(at_ms=ended.at_ms, kind=kind, severity=severity, text=text))])

    def _label(self, polled: Polled) -> None:
        """The kind of device, once it has told; the configuration's labels count before."""
        categories = (getattr(fact, "category", "") for fact in polled.facts)
        labels = {"device": next(filter(None, categories), self.labels["device"])} | self._own_labels
        if labels != self.labels:
            self.labels = labels
            self._announce()

    # -- the connection ------------------------------------------------------------------------------------------------

    def turn(self) -> float:
        """One round of everything, never blocks; returns the seconds until the next is due."""
        for outcome in self.link.step():
            if isinstance(outcome, Up):
                self._flow.connected(self.outbox.count())
                self._announce()
            elif isinstance(outcome, Received):
                self._received(outcome)
        lost = self.outbox.dropped[Priority.INVENTORY]
        if lost > self._lost_facts:
            self._lost_facts = lost
            self._changes.resend()
        if self.link.connected:
            for seq in self._flow.due(self.outbox):
                self._send(seq)
        return min(self.link.wait_s(), self._flow.wait_s() if self.link.connected else 60.0)

    def close(self) -> None:
        """Say offline and disconnect."""
        self.link.close()

    def _send(self, seq: int) -> None:
        body = self.outbox.body(seq)
        if body is None:
            self._flow.in_flight.pop(seq, None)
            return
        box = self.outbox
        report = Report(host_id=self.host_id, epoch=box.epoch, seq=seq, floor=box.floor(), start=self._place.start)
        head = encode(report)
        payload = head if body == b"{}" else head[:-1] + b"," + body[1:]
        self.link.publish(Channel.EVENT if b'"events":' in body[:10] else Channel.REPORT, payload)

    def _announce(self) -> None:
        self.link.publish(Channel.BIRTH, encode(self.birth()), retain=True)
        self._say_state()

    def _say_state(self) -> None:
        state = State(host_id=self.host_id, start=self._place.start, online=self.online)
        self.link.publish(Channel.STATE, encode(state), retain=True)

    def birth(self) -> Birth:
        """Who this is, now. Its fingerprint is empty: what it has of serial numbers stands in its facts."""
        return Birth(
            host_id=self.host_id,
            start=self._place.start,
            epoch=self.outbox.epoch,
            hostname=self.target.name,
            at_ms=time.time_ns() // 1_000_000,
            agent_version=VERSION,
            fingerprint=Fingerprint(),
            labels=self.labels,
            collectors=[self.target.protocol],
        )

    # -- what is heard -------------------------------------------------------------------------------------------------

    def _received(self, received: Received) -> None:
        message = received.message
        if isinstance(message, Ack):
            if message.start in ("", self._place.start):
                self.outbox.ack(message.epoch, message.seq)
                if message.epoch == self.outbox.epoch:
                    self._flow.acked(message.seq, self.outbox.floor())
        elif isinstance(message, Desired):
            self._decline(message)
        elif received.name not in self._done:
            self._done[received.name] = None
            while len(self._done) > REMEMBERED:
                self._done.popitem(last=False)
            self.link.publish(Channel.RESULT, encode(self._obey(message)), name=received.name)

    def _obey(self, command: Command) -> Result:
        if command.verb == "rebirth":
            self._changes.resend()
            self._announce()
        elif command.verb != "collect":
            text = f"unknown verb {command.verb[:64]!r}; a polled device knows: collect, rebirth"
            return Result(ok=False, text=text)
        self._ask()
        return Result(ok=True)

    def _decline(self, desired: Desired) -> None:
        """Nothing is set on a device that is polled."""
        reported = Reported(
            host_id=self.host_id,
            start=self._place.start,
            generation=desired.generation,
            hash=desired.hash,
            status=ReportedStatus.FAILED if desired.settings else ReportedStatus.APPLIED,
            at_ms=time.time_ns() // 1_000_000,
            reason="a polled device: nothing is set on it" if desired.settings else "",
        )
        self.link.publish(Channel.REPORTED, encode(reported), retain=True)
