"""A simulated fleet: thousands of agents in one process and one thread, each with an MQTT connection of its own.

paho does the protocol and is driven from outside: one selector waits for all connections, so a host costs one socket
and some 10 kB. Time, rate and number are bounded by `Options`; at the end every host says that it is offline.
"""

import heapq
import itertools
import random
import resource
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from hardware_lab import replay
from hardware_lab.failure import LabError
from hardware_lab.fleet_plan import Options, Summary, mistakes
from hardware_lab.simulated import EVENT, EVERYTHING, Host
from wire.codec import DecodeError, decode, encode
from wire.policy import DESIRED
from wire.report import ACK, COMMAND, Result
from wire.topics import TO_HOST, BadTopicError, Channel, parse_topic, subscription, topic

KEEPALIVE_S = 60
EVENT_S = 600.0  # a host has an event that often, on average
SWEEP_S = 2.0  # between two looks at keepalives and rows that nobody acknowledged
SAY_S = 10.0
DIAL_S = (1.0, 60.0)  # longest pause before a host dials again: at first, in the end
FAREWELL_S = 30.0
SPARE_FILES = 64
DIAL = -2.0  # in the place of an interval


class _Member:
    """A host with its connection."""

    __slots__ = ("client", "failures", "farewell", "host", "online", "scheduled")

    def __init__(self, host: Host) -> None:
        self.host = host
        self.client: mqtt.Client | None = None
        self.online = False
        self.scheduled = False  # its cycles run
        self.failures = 0
        self.farewell: int | None = None  # message id of its last word


class Fleet:
    """All hosts; `run` returns when it is over, whatever broker and inventory do."""

    def __init__(self, options: Options, say: Callable[[str], None] = lambda _: None) -> None:
        if wrong := mistakes(options):
            raise LabError("; ".join(wrong))
        _allow_files(options.hosts + SPARE_FILES)
        portraits = replay.read_portraits(options.captures)
        run, begun_ms = uuid4(), time.time_ns() // 1_000_000
        numbers = range(options.first, options.first + options.hosts)
        self.options = options
        self.summary = Summary(hosts=options.hosts)
        self.members = [
            _Member(Host(portrait, replay.person(portrait, number), run, begun_ms))
            for number, portrait in zip(numbers, itertools.cycle(portraits), strict=False)
        ]
        self._say = say
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, _Member, float]] = []  # when, tie-break, whose, what
        self._ready: deque[_Member] = deque()  # may have rows to send
        self._ties = itertools.count()
        self._begun = self._refilled = time.monotonic()
        self._tokens = 0.0
        self._stopped = False
        self.last_acks_s = 30.0  # how long to wait for them at the end

    def run(self) -> Summary:
        """Dial, report, wait for the last acks, say goodbye; raises LabError when nobody listens at the address."""
        _knock(self.options.host, self.options.port)
        self._begun = self._refilled = time.monotonic()
        for member in self.members:
            self._later(self._begun, member, DIAL)
        try:
            self._until(self._over, self.options.minutes * 60.0)
            self._due.clear()  # no new rows from here on
            self._until(self._settled, self.last_acks_s)
            self._leave()
        finally:
            self._selector.close()
        self._count()
        return self.summary

    def stop(self) -> None:
        """End soon, in order; may be called from a signal handler."""
        self._stopped = True

    # -- time ----------------------------------------------------------------------------------------------------------

    def _over(self) -> bool:
        asked = self.options.reports * len(self.members)
        return self._stopped or (asked > 0 and self.summary.rows >= asked and self._settled())

    def _settled(self) -> bool:
        return self._stopped or self.summary.acked + self.summary.dropped >= self.summary.rows

    def _until(self, over: Callable[[], bool], seconds: float) -> None:
        """Take turns until `over`, at most this long."""
        now = time.monotonic()
        end, sweep, say = now + seconds, now + SWEEP_S, now + SAY_S
        while now < end and not over():
            self._turn(now, min(end, sweep, say))
            now = time.monotonic()
            if now >= sweep:
                self._sweep(now)
                sweep = now + SWEEP_S
            if now >= say:
                self._count()
                self._say(self.summary.line)
                say = now + SAY_S

    def _turn(self, now: float, until: float) -> None:
        most = max(1.0, self.options.per_s / 10)
        self._tokens = min(most, self._tokens + (now - self._refilled) * self.options.per_s)
        self._refilled = now
        while self._tokens >= 1 and self._due and self._due[0][0] <= now:
            _, _, member, what = heapq.heappop(self._due)
            self._dial(member) if what == DIAL else self._cycle(member, what, now)
        while self._tokens >= 1 and self._ready:
            self._send(self._ready.popleft(), now)
        self._listen(max(0.0, min(until - now, self._wait_s(now))))

    def _wait_s(self, now: float) -> float:
        if self._ready or (self._due and self._due[0][0] <= now):
            return (1 - self._tokens) / self.options.per_s if self._tokens < 1 else 0.0
        return self._due[0][0] - now if self._due else SWEEP_S

    def _later(self, at: float, member: _Member, what: float) -> None:
        heapq.heappush(self._due, (at, next(self._ties), member, what))

    def _sweep(self, now: float) -> None:
        for member in self.members:
            if member.client is not None:
                member.client.loop_misc()
            if member.online and (again := member.host.overdue(now)):
                self.summary.resent += again
                self._ready.append(member)

    def _count(self) -> None:
        self.summary.seconds = time.monotonic() - self._begun
        self.summary.connected = sum(member.online for member in self.members)
        self.summary.unacked = sum(member.host.held for member in self.members)

    # -- what a host says ----------------------------------------------------------------------------------------------

    def _cycle(self, member: _Member, what: float, now: float) -> None:
        """One cycle of the collectors of an interval, or an event; and the next one."""
        if self._add(member, what):
            every_s = random.expovariate(1 / EVENT_S) if what == EVENT else what * random.uniform(0.98, 1.02)  # noqa: S311
            self._later(now + every_s / self.options.speed, member, what)

    def _add(self, member: _Member, what: float) -> bool:
        """Give a host a row to send; False when it has had all it is to have."""
        if self.options.reports and member.host.seq >= self.options.reports:
            return False
        self.summary.rows += 1
        self.summary.dropped += member.host.add(what, time.time_ns() // 1_000_000)
        self._ready.append(member)
        return True

    def _send(self, member: _Member, now: float) -> None:
        """The next row, if there is one; the others wait their turn behind those of other hosts."""
        if member.online and (row := member.host.next_row(now)) is not None:
            self._publish(member, *member.host.message(row))
            self._ready.append(member)

    def _publish(
        self, member: _Member, channel: Channel, payload: bytes, *, retain: bool = False, name: str = ""
    ) -> int:
        assert member.client is not None  # noqa: S101 - only those that are online speak
        where = topic(self.options.site, member.host.who.host_id, channel, name)
        self._tokens -= 1
        self.summary.messages += 1
        self.summary.bytes += len(payload) + len(where)
        return member.client.publish(where, payload, qos=1, retain=retain).mid

    def _announce(self, member: _Member) -> None:
        self.summary.births += 1
        self._publish(member, Channel.BIRTH, member.host.birth(time.time_ns() // 1_000_000), retain=True)
        self._publish(member, Channel.STATE, member.host.state(online=True), retain=True)

    def _schedule(self, member: _Member) -> None:
        """All facts now; then each interval from a random part of it on, so that hosts do not report together."""
        self._add(member, EVERYTHING)
        now, phase = time.monotonic(), random.random()  # noqa: S311 - no secret
        for every_s in member.host.portrait.intervals:
            self._later(now + every_s * phase / self.options.speed, member, every_s)
        self._later(now + random.expovariate(1 / EVENT_S) / self.options.speed, member, EVENT)
        member.scheduled = True

    # -- connections ---------------------------------------------------------------------------------------------------

    def _dial(self, member: _Member) -> None:
        self._tokens -= 1
        member.client = client = self._client(member)
        try:
            client.connect(self.options.host, self.options.port, KEEPALIVE_S)
        except OSError:
            self._dial_again(member)

    def _client(self, member: _Member) -> mqtt.Client:
        who, site = member.host.who, self.options.site
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"rackhand-{who.host_id}-{member.host.start[:8]}",
            userdata=member,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = 5.0
        client.will_set(topic(site, who.host_id, Channel.STATE), member.host.state(online=False), qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_full
        client.on_socket_unregister_write = self._on_empty
        return client

    def _dial_again(self, member: _Member) -> None:
        member.client, member.online = None, False
        wait_s = min(DIAL_S[1], DIAL_S[0] * 2**member.failures)
        member.failures = min(member.failures + 1, 10)
        self._later(time.monotonic() + random.uniform(0, wait_s), member, DIAL)  # noqa: S311 - no secret

    def _listen(self, wait_s: float) -> None:
        """Hand every socket that is ready to its client; what they heard comes back through the callbacks below."""
        for key, ready in self._selector.select(wait_s):
            client: mqtt.Client = key.data
            if ready & selectors.EVENT_READ:
                client.loop_read()
            if ready & selectors.EVENT_WRITE:
                client.loop_write()

    def _leave(self) -> None:
        """Every host says that it is offline, and disconnects when the broker has that."""
        leaving: Iterator[_Member] = (member for member in self.members if member.online)
        for member in leaving:
            member.farewell = self._publish(member, Channel.STATE, member.host.state(online=False), retain=True)
            while self._tokens < 1:
                self._turn(time.monotonic(), time.monotonic() + 1 / self.options.per_s)
        self._count()
        self._until(lambda: not any(member.online for member in self.members), FAREWELL_S)

    # -- paho's callbacks, all on this thread --------------------------------------------------------------------------

    def _on_connect(self, client: mqtt.Client, member: _Member, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            return  # the broker hangs up
        member.online, member.failures = True, 0
        member.host.connected()
        client.subscribe(
            [(subscription(channel, self.options.site, member.host.who.host_id), 1) for channel in TO_HOST]
        )
        self._announce(member)
        if member.scheduled:
            self._ready.append(member)
        else:
            self._schedule(member)

    def _on_disconnect(self, _client: Any, member: _Member, _flags: Any, _reason: Any, _properties: Any) -> None:
        if member.farewell is not None:
            member.client, member.online = None, False
            return
        self.summary.lost += 1
        self._dial_again(member)

    def _on_message(self, _client: mqtt.Client, member: _Member, message: mqtt.MQTTMessage) -> None:
        try:
            parsed = parse_topic(message.topic)
            self._heard(member, parsed.channel, parsed.name, bytes(message.payload))
        except (BadTopicError, DecodeError, UnicodeDecodeError):
            self.summary.bad += 1

    def _heard(self, member: _Member, channel: Channel, name: str, payload: bytes) -> None:
        host, at_ms = member.host, time.time_ns() // 1_000_000
        if channel is Channel.ACK:
            self.summary.acks += 1
            self.summary.acked += host.acked(decode(ACK, payload), time.monotonic())
            self._ready.append(member)
        elif channel is Channel.DESIRED:
            self._publish(member, Channel.REPORTED, host.reported(decode(DESIRED, payload), at_ms), retain=True)
        elif channel is Channel.CMD:
            command = decode(COMMAND, payload)
            known = command.verb in ("rebirth", "collect")
            if command.verb == "rebirth":
                self._announce(member)
            if known:
                self._add(member, EVERYTHING)
            said = Result(ok=known, text="" if known else "a simulated host changes nothing")
            self._publish(member, Channel.RESULT, encode(said), name=name)

    def _on_publish(self, client: mqtt.Client, member: _Member, mid: int, _reason: Any, _properties: Any) -> None:
        if mid == member.farewell:
            client.disconnect()

    def _on_socket_open(self, client: mqtt.Client, _member: Any, connection: Any) -> None:
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _on_socket_close(self, _client: Any, _member: Any, connection: Any) -> None:
        with suppress(KeyError, ValueError):
            self._selector.unregister(connection)

    def _on_full(self, client: mqtt.Client, _member: Any, connection: Any) -> None:
        self._selector.modify(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, client)

    def _on_empty(self, client: mqtt.Client, _member: Any, connection: Any) -> None:
        with suppress(KeyError):
            self._selector.modify(connection, selectors.EVENT_READ, client)


def _allow_files(count: int) -> None:
    """Let this process hold that many files; raises LabError when it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise LabError(f"{count} open files are needed and {hard} are allowed: raise `ulimit -Hn`, or take fewer hosts")
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _knock(host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        raise LabError(f"no broker at {host}:{port}: {error.strerror or error}") from None
