"""A subscriber that counts the agent's samples and acknowledges its rows as the inventory would."""

import socket
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from wire.codec import decode, encode
from wire.report import REPORT, Ack
from wire.topics import Channel, parse_topic, subscription, topic


def free_port() -> int:
    """A TCP port on loopback that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class SampleCount:
    """Counts samples as they come; `of_newest_cycle` says how many the last interval brought."""

    def __init__(self, port: int) -> None:
        self.seen: list[tuple[float, int]] = []
        self.lock = threading.Lock()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.on_message = self.on_message
        self.client.connect("127.0.0.1", port)
        for channel in (Channel.REPORT, Channel.EVENT):
            self.client.subscribe(subscription(channel), qos=1)
        self.client.loop_start()

    def on_message(self, client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        """Count, and ack at once."""
        at = parse_topic(message.topic)
        report = decode(REPORT, bytes(message.payload))
        with self.lock:
            self.seen.append((time.monotonic(), sum(len(run.samples) for run in report.runs)))
        ack = Ack(host_id=report.host_id, epoch=report.epoch, seq=report.seq, start=report.start)
        client.publish(topic(at.site, at.host_id, Channel.ACK), encode(ack), qos=1)

    def of_newest_cycle(self, every_s: float) -> int:
        """Samples per interval, over the last six of them."""
        since = time.monotonic() - 6 * every_s
        with self.lock:
            return sum(count for at, count in self.seen if at > since) // 6

    def close(self) -> None:
        """Leave the broker."""
        self.client.disconnect()
        self.client.loop_stop()
