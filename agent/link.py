"""The MQTT connection: dialled again for ever, MQTT 5 first and 3.1.1 where the broker knows no better.

Every callback runs on paho's network thread and only puts a notice into a queue; all that is decided is decided by
the caller of `step`, on its own thread. A client object lives for one connection: paho keeps unsent messages in RAM,
and the spool is what sends again.
"""

import logging
import queue
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.config import Broker, ConfigError, password
from wire.codec import MAX_BYTES, DecodeError, decode, encode
from wire.policy import DESIRED, Desired
from wire.report import ACK, COMMAND, Ack, Command, State
from wire.topics import TO_HOST, BadTopicError, Channel, Topic, parse_topic, subscription, topic

CONNACK_WITHIN_S = {5: 2.0, 4: 15.0}  # amqtt says nothing at all to a CONNECT of MQTT 5
MAX_INBOX = 1000
UNSUPPORTED_VERSION = "Unsupported protocol version"
V5, V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311

log = logging.getLogger("rackhand.link")

QOS = {Channel.ACK: 0}  # cumulative, and given again for a row that is sent again: no PUBACK is worth its wakeups

DECODERS: dict[Channel, msgspec.json.Decoder[Any]] = {
    Channel.DESIRED: DESIRED,
    Channel.ACK: ACK,
    Channel.CMD: COMMAND,
}


class Up(NamedTuple):
    """Connected: subscriptions are sent; birth and state are the caller's to publish."""

    protocol: int  # 4 is MQTT 3.1.1, 5 is MQTT 5


class Down(NamedTuple):
    """Not connected any more, or not reached; a new attempt follows."""

    reason: str


class Received(NamedTuple):
    """A message to this host; `name` is a command's id."""

    name: str
    message: Desired | Ack | Command


class _Notice(NamedTuple):
    """From the network thread: which client, what happened."""

    attempt: int
    kind: str  # "connack" | "refused" | "unreached" | "down" | "message"
    text: str = ""  # topic of a message, else the reason
    payload: bytes = b""


class _Client(mqtt.Client):
    """A client whose network thread wakes for traffic and `look_s` for the keepalive, not every second."""

    look_s = 1.0

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:  # noqa: ARG002
        """Until disconnected; what `loop_start` runs on its thread."""
        return super().loop_forever(self.look_s, retry_first_connection)


class Link:
    """One host's connection. `protocol` is the version that is used; `bad` counts messages that could not be read."""

    def __init__(
        self,
        broker: Broker,
        *,
        site: str,
        host_id: str,
        start: str,
        wake: Callable[[], None] = lambda: None,
        backoff_s: tuple[float, float] = (2.0, 120.0),
        silent: bool = False,
    ) -> None:
        self.broker = broker
        self.site = site
        self.host_id = host_id
        self.start = start
        self.client_id = f"rackhand-{host_id}-{start[:8]}"
        self.protocol = V5
        self.connected = False
        self.bad: Counter[str] = Counter()
        self.failures = 0
        self._wake = wake
        self._silent = silent  # no last will and no word at the end: a mere visitor
        self._backoff_s = backoff_s
        self._inbox: queue.SimpleQueue[_Notice] = queue.SimpleQueue()
        self._client: mqtt.Client | None = None
        self._attempt = 0
        self._dialled_at = 0.0
        self._next_dial = 0.0
        self._reason = ""

    def step(self) -> list[Up | Down | Received]:
        """Dial when it is time, and hand over what the network thread left; never blocks, never raises."""
        now = time.monotonic()
        if self._client is None and now >= self._next_dial:
            self._dial(now)
        found: list[Up | Down | Received] = []
        while not self._inbox.empty():
            notice = self._inbox.get()
            if notice.attempt == self._attempt and (outcome := self._take(notice)) is not None:
                found.append(outcome)
        trouble = self._trouble(now)
        return [*found, self._fail(trouble)] if trouble else found

    def wait_s(self) -> float:
        """Seconds until `step` has something to do by itself."""
        if self._client is None:
            return max(0.0, self._next_dial - time.monotonic())
        return 30.0 if self.connected else 0.5  # what the network thread hears ends the wait

    def publish(self, channel: Channel, payload: bytes, *, retain: bool = False, name: str = "") -> bool:
        """Hand a QoS 1 message to the connection; False when there is none (nothing is queued then)."""
        if not self.connected or self._client is None:
            return False
        text = topic(self.site, self.host_id, channel, name)
        return self._client.publish(text, payload, qos=1, retain=retain).rc == mqtt.MQTT_ERR_SUCCESS

    def close(self, within_s: float = 2.0) -> None:
        """Say offline, disconnect cleanly (so that no last will is sent) and stop the network thread."""
        client, self._client = self._client, None
        if client is None:
            return
        was_connected, self.connected = self.connected, False
        if was_connected and not self._silent:
            said = client.publish(self._topic(Channel.STATE), self._offline(), qos=1, retain=True)
            self._wait_for(said, within_s)
        self._discard(client)
        client.loop_stop()

    # -- one attempt ---------------------------------------------------------------------------------------------------

    def _dial(self, now: float) -> None:
        self._attempt += 1
        self._dialled_at = now
        try:
            self._client = self._make(self._attempt)
        except (OSError, ValueError, ConfigError) as error:
            self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
            self._post(_Notice(self._attempt, "unreached", str(error)))
            return
        name = f"rackhand-dial-{self._attempt}"
        threading.Thread(target=self._connect, args=(self._client, self._attempt), name=name, daemon=True).start()

    def _make(self, attempt: int) -> mqtt.Client:
        v5 = self.protocol == V5
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            clean_session=None if v5 else True,
            protocol=self.protocol,
            reconnect_on_failure=False,
        )
        client.suppress_exceptions = True  # what a callback raises is logged by paho and ends no thread
        client.connect_timeout = 5.0
        client.look_s = self.broker.keepalive_s / 4
        if self.broker.username:
            client.username_pw_set(self.broker.username, password(self.broker) or None)
        if self.broker.tls_ca:
            client.tls_set(self.broker.tls_ca)  # pyright: ignore[reportUnknownMemberType]
        if not self._silent:
            client.will_set(self._topic(Channel.STATE), self._offline(), qos=1, retain=True)
        self._listen(client, attempt)
        return client

    def _listen(self, client: mqtt.Client, attempt: int) -> None:
        def connack(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            self._post(_Notice(attempt, "refused" if reason.is_failure else "connack", str(reason)))

        def down(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            self._post(_Notice(attempt, "down", str(reason)))

        def message(_client: Any, _data: Any, received: mqtt.MQTTMessage) -> None:
            if len(received.payload) > MAX_BYTES or self._inbox.qsize() > MAX_INBOX:
                self._count_bad("oversized" if len(received.payload) > MAX_BYTES else "flood", received.topic)
            else:
                self._post(_Notice(attempt, "message", received.topic, bytes(received.payload)))

        def subscribed(_client: Any, _data: Any, _mid: Any, reasons: Any, _properties: Any) -> None:
            if any(reason.is_failure for reason in reasons):
                self._post(_Notice(attempt, "down", f"subscription refused: {reasons[0]}"))

        def noted(_client: Any, _data: Any, level: int, text: str) -> None:
            if level == LogLevel.MQTT_LOG_ERR:
                log.log(logging.ERROR if "exception" in text else logging.DEBUG, "mqtt: %s", text)

        client.on_connect = connack
        client.on_disconnect = down
        client.on_message = message
        client.on_subscribe = subscribed
        client.on_log = noted

    def _connect(self, client: mqtt.Client, attempt: int) -> None:
        """On a thread of its own, as names and TCP block; the network thread begins when it worked."""
        options: dict[str, Any] = {}
        if self.protocol == V5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = MAX_BYTES + 65536
            options = {"clean_start": True, "properties": properties}
        try:
            client.connect(self.broker.host, self.broker.port, self.broker.keepalive_s, **options)
        except (OSError, ValueError) as error:
            self._post(_Notice(attempt, "unreached", str(error)))
            return
        client.loop_start()

    def _post(self, notice: _Notice) -> None:
        self._inbox.put(notice)
        self._wake()

    # -- what the network thread left ----------------------------------------------------------------------------------

    def _take(self, notice: _Notice) -> Up | Down | Received | None:
        if notice.kind == "message":
            return self._decode(notice.text, notice.payload)
        if notice.kind != "connack":
            return self._fail(notice.text, unreached=notice.kind == "unreached")
        self.connected = True
        self.failures = 0
        self._reason = ""
        filters = [(subscription(channel, self.site, self.host_id), QOS.get(channel, 1)) for channel in TO_HOST]
        if self._client is not None:
            self._client.subscribe(filters)
        log.info("connected to %s:%d, MQTT %s", self.broker.host, self.broker.port, _spelled(self.protocol))
        return Up(int(self.protocol))

    def _trouble(self, now: float) -> str:
        """Why a connection that said nothing is given up, "" when it is not."""
        if self._client is None:
            return ""
        if not self.connected:
            within_s = CONNACK_WITHIN_S[self.protocol]
            return f"no CONNACK within {within_s} s" if now - self._dialled_at > within_s else ""
        name = f"paho-mqtt-client-{self.client_id}"
        return "" if any(thread.name == name for thread in threading.enumerate()) else "the network thread died"

    def _fail(self, reason: str, *, unreached: bool = False) -> Down:
        """Give this client up and set the time of the next attempt (full jitter)."""
        client, self._client = self._client, None
        self._attempt += 1  # what this client still says is not heard
        was_connected, self.connected = self.connected, False
        first_refusal = not was_connected and not unreached and self._other_version(reason)
        if client is not None:
            self._discard(client)
        least, most = self._backoff_s
        limit_s = min(most, least * 2**self.failures)
        wait_s = 0.0 if first_refusal else random.uniform(0, limit_s)  # noqa: S311 - no secret
        self.failures = min(self.failures + (not first_refusal), 20)
        self._next_dial = time.monotonic() + wait_s
        if reason != self._reason:
            log.warning("broker %s:%d: %s", self.broker.host, self.broker.port, reason)
            self._reason = reason
        return Down(reason)

    def _other_version(self, reason: str) -> bool:
        """Try the other protocol version after a refusal that may be about it; True when 3.1.1 is now to be tried."""
        told = UNSUPPORTED_VERSION in reason
        hung_up = "authorized" not in reason and "user name" not in reason
        if told or hung_up:
            self.protocol = V311 if self.protocol == V5 else V5
        return (told or hung_up) and self.protocol == V311

    def _decode(self, text: str, payload: bytes) -> Received | None:
        try:
            parsed = self._mine(parse_topic(text))
            message = decode(DECODERS[parsed.channel], payload)
        except (BadTopicError, DecodeError) as error:
            self._count_bad(text.rpartition("/")[2][:64], str(error))
            return None
        if getattr(message, "host_id", self.host_id) != self.host_id:
            self._count_bad(str(parsed.channel), "for another host")
            return None
        return Received(parsed.name, message)

    def _mine(self, parsed: Topic) -> Topic:
        if (parsed.site, parsed.host_id) != (self.site, self.host_id) or parsed.channel not in DECODERS:
            raise BadTopicError("not a topic of this host")
        return parsed

    def _count_bad(self, what: str, why: str) -> None:
        self.bad[what] += 1
        if self.bad[what] == 1:
            log.warning("message left out (%s): %s; further ones are only counted", what, why)

    def _topic(self, channel: Channel) -> str:
        return topic(self.site, self.host_id, channel)

    def _offline(self) -> bytes:
        return encode(State(host_id=self.host_id, start=self.start, online=False))

    @staticmethod
    def _wait_for(said: mqtt.MQTTMessageInfo, within_s: float) -> None:
        try:
            said.wait_for_publish(within_s)
        except (ValueError, RuntimeError) as error:
            log.warning("offline was not said: %s", error)

    @staticmethod
    def _discard(client: mqtt.Client) -> None:
        """End a client's connection and with it its thread, also when the peer hangs."""
        client.disconnect()
        connection = client.socket()
        if isinstance(connection, socket.socket):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


def _spelled(protocol: int) -> str:
    return "5" if protocol == V5 else "3.1.1"
