"""The topic grammar: what it builds it parses, and it takes nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.topics import NAMED, BadTopicError, Channel, Topic, is_id, parse_topic, subscription, topic

IDS = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?", fullmatch=True)


@given(site=IDS, host=IDS, name=IDS, channel=st.sampled_from(Channel))
def test_what_is_built_is_parsed(site: str, host: str, name: str, channel: Channel) -> None:
    built = Topic(site, host, channel, name if channel in NAMED else "")
    assert parse_topic(str(built)) == built


@given(st.text())
def test_any_text_is_a_topic_or_one_clear_error(text: str) -> None:
    try:
        parsed = parse_topic(text)
    except BadTopicError as error:
        assert "\n" not in str(error)
    else:
        assert str(parsed) == text


@pytest.mark.parametrize(
    "bad",
    [
        "rackhand/v1/lab/web01.example.com/birth",
        "rackhand/v1/lab/Web01/birth",
        "rackhand/v1/lab/a b/birth",
        "rackhand/v1/lab/+/birth",
        "rackhand/v1/lab/#",
        "rackhand/v2/lab/h1/birth",
        "rackhand/v1/lab/h1/telemetry",
        "rackhand/v1/lab/h1/cmd",
        "rackhand/v1/lab/h1/birth/extra",
        "rackhand/v1/lab/h1/cmd/x/y",
        "rackhand/v1//h1/birth",
        "",
    ],
)
def test_other_topics_are_refused(bad: str) -> None:
    with pytest.raises(BadTopicError):
        parse_topic(bad)


def test_a_raw_hostname_never_becomes_a_topic() -> None:
    with pytest.raises(BadTopicError, match=r"web01\.example\.com"):
        topic("lab", "web01.example.com", Channel.REPORT)


def test_ids_are_slugs_or_uuids() -> None:
    assert is_id("3e0f5a2e-7b0c-4c8e-9b53-6a4f0f1c2d3e")
    assert is_id("r")
    assert not is_id("-r")
    assert not is_id("r" * 65)


def test_filters() -> None:
    assert subscription(Channel.REPORT) == "rackhand/v1/+/+/report"
    assert subscription(Channel.CMD, "lab", "h1") == "rackhand/v1/lab/h1/cmd/+"
