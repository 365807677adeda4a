"""One connection to the broker, driven by its caller's thread: nothing is read while the caller is busy.

MQTT 5 first, 3.1.1 when the broker refuses it. Every connect starts clean and subscribes again, because a broker may
have lost the session; hosts send again what was not acknowledged by the inventory, so nothing depends on a session.
"""

import os
import time
from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from hwdb.broker import Address
from hwdb.ingest_messages import Incoming

KEEPALIVE_S = 60
RETRY_S = (0.2, 10.0)  # first and longest wait between two attempts to connect
BATCH_BYTES = 16_000_000  # a batch ends with the message that reaches it


class Connection:
    """A subscription to `filters` at QoS 1 that heals itself; used by one thread."""

    def __init__(self, address: Address, filters: Sequence[str], client_id: str = "") -> None:
        self._address = address
        self._filters = [(text, 1) for text in filters]
        self._client_id = client_id or f"rackhand-inventory-{os.getpid()}"
        self._client: paho.Client | None = None
        self._protocol = MQTTProtocolVersion.MQTTv5
        self._inbox: list[Incoming] = []
        self._inbox_bytes = 0
        self._wait_s = RETRY_S[0]
        self._next_try = 0.0
        self.connected = False
        self.attempts = 0
        self.connects = 0
        self.error = "not connected yet"

    def receive(self, most: int, wait_s: float, linger_s: float) -> list[Incoming]:
        """Up to `most` messages: waits `wait_s` for the first and `linger_s` after it for more; [] when none came."""
        now = time.monotonic()
        give_up, enough = now + wait_s, None
        while len(self._inbox) < most and self._inbox_bytes < BATCH_BYTES:
            self._step(max(0.0, (enough or give_up) - now))
            now = time.monotonic()
            if self._inbox and enough is None:
                enough = now + linger_s
            if now >= (enough or give_up):
                break
        batch, self._inbox = self._inbox[:most], self._inbox[most:]
        self._inbox_bytes = sum(len(item.payload) for item in self._inbox)
        return batch

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        """Hand a message to the connection; False when there is none (nothing is queued for later)."""
        if self._client is None or not self.connected:
            return False
        return self._client.publish(topic, payload, qos=qos, retain=retain).rc == paho.MQTT_ERR_SUCCESS

    def close(self) -> None:
        """Say goodbye to the broker."""
        if self._client is not None and self.connected:
            self._client.disconnect()
            self._client.loop(0.1)
        self._client, self.connected = None, False

    def _step(self, timeout_s: float) -> None:
        if self._client is None and not self._connect(timeout_s):
            return
        assert self._client is not None  # noqa: S101 - _connect made it
        if self._client.loop(timeout_s) != paho.MQTT_ERR_SUCCESS:
            self._lost()

    def _connect(self, timeout_s: float) -> bool:
        pause = self._next_try - time.monotonic()
        if pause > 0:
            time.sleep(min(pause, timeout_s))
            return False
        self.attempts += 1
        client = self._new_client()
        try:
            client.connect(*self._address, keepalive=KEEPALIVE_S)
        except OSError as error:
            self.error = f"cannot reach the broker at {self._address}: {error.strerror or error}"
            self._back_off()
            return False
        self._client = client
        return True

    def _new_client(self) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, self._client_id, protocol=self._protocol)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.max_queued_messages_set(0)
        client.max_inflight_messages_set(500)
        return client

    def _lost(self) -> None:
        if not self.connected:  # refused before it began: the other version may be welcome
            v5 = self._protocol == MQTTProtocolVersion.MQTTv5
            self._protocol = MQTTProtocolVersion.MQTTv311 if v5 else MQTTProtocolVersion.MQTTv5
        else:
            self.error = f"lost the broker at {self._address}"
        self._client, self.connected = None, False
        self._back_off()

    def _back_off(self) -> None:
        self._next_try = time.monotonic() + self._wait_s
        self._wait_s = min(self._wait_s * 2, RETRY_S[1])

    def _on_connect(self, client: paho.Client, _user: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.error = f"the broker at {self._address} refused: {reason}"
            return
        self.connected, self.error, self._wait_s = True, "", RETRY_S[0]
        self.connects += 1
        client.subscribe(self._filters)

    def _on_message(self, _client: paho.Client, _user: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # no topic of ours
            return
        self._inbox_bytes += len(message.payload)
        self._inbox.append(Incoming(topic, bytes(message.payload), time.time_ns() // 1_000_000))
