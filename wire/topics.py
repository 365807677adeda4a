"""The topic grammar `rackhand/v1/<site>/<host_id>/<channel>[/<name>]`."""

import enum
import re
from typing import NamedTuple

PREFIX = "rackhand/v1"
_ID = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?")


class Channel(enum.StrEnum):
    """The fifth segment of a topic: who speaks, and about what."""

    BIRTH = "birth"  # host, retained: who I am (`report.Birth`)
    STATE = "state"  # host, retained, last will: online or not (`report.State`)
    REPORT = "report"  # host: what collectors found (`report.Report`)
    EVENT = "event"  # host: what happened (`report.Report` too, with events)
    DESIRED = "desired"  # inventory, retained: what this host is to be (`policy.Desired`)
    REPORTED = "reported"  # host, retained: what came of it (`policy.Reported`)
    ACK = "ack"  # inventory: rows that are safe in SQL (`report.Ack`)
    CMD = "cmd"  # inventory: do this once (`report.Command`)
    RESULT = "result"  # host: what came of a command (`report.Result`)


FROM_HOST = (Channel.BIRTH, Channel.STATE, Channel.REPORT, Channel.EVENT, Channel.REPORTED, Channel.RESULT)
TO_HOST = (Channel.DESIRED, Channel.ACK, Channel.CMD)
NAMED = (Channel.CMD, Channel.RESULT)


class BadTopicError(ValueError):
    """The topic is not of the form rackhand/v1/<site>/<host_id>/<channel>[/<name>]."""


class Topic(NamedTuple):
    """One parsed topic; `str()` gives it back."""

    site: str
    host_id: str
    channel: Channel
    name: str = ""

    def __str__(self) -> str:
        return topic(self.site, self.host_id, self.channel, self.name)


def is_id(text: str) -> bool:
    """True for a slug or UUID: 1 to 64 of a-z 0-9 _ -, starting and ending with a letter or digit."""
    return _ID.fullmatch(text) is not None


def topic(site: str, host_id: str, channel: Channel, name: str = "") -> str:
    """The topic's text; raises BadTopicError when a segment is not an id (a raw hostname, say)."""
    segments = (site, host_id, name) if name else (site, host_id)
    for segment in segments:
        if not is_id(segment):
            raise BadTopicError(f"{segment!r} is not a topic id (slug or UUID)")
    if bool(name) != (channel in NAMED):
        raise BadTopicError(f"channel {channel} takes {'a' if channel in NAMED else 'no'} name")
    return "/".join((PREFIX, site, host_id, channel, *segments[2:]))


def parse_topic(text: str) -> Topic:
    """The parts of a topic; raises BadTopicError with the reason."""
    parts = text.split("/")
    if len(parts) not in (5, 6) or "/".join(parts[:2]) != PREFIX:
        raise BadTopicError(f"{text[:200]!r} is not {PREFIX}/<site>/<host_id>/<channel>[/<name>]")
    try:
        channel = Channel(parts[4])
    except ValueError:
        raise BadTopicError(f"unknown channel {parts[4][:64]!r}") from None
    parsed = Topic(parts[2], parts[3], channel, parts[5] if len(parts) == 6 else "")
    topic(*parsed)
    return parsed


def subscription(channel: Channel, site: str = "+", host_id: str = "+") -> str:
    """The filter for a channel, of every host unless named."""
    tail = "/+" if channel in NAMED else ""
    return f"{PREFIX}/{site}/{host_id}/{channel}{tail}"
