"""Access lists as text, and settings of XDP programs in their one spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.xdp import NOTHING, by_prefix, canonical, format_acl, parse_acl, parse_programs


def test_rules_have_one_order_and_one_spelling() -> None:
    text = "allow 10.0.0.0/8 6/80, deny 10.8.0.7 , deny 2001:DB8::/32 udp/53-60,allow 10.0.0.0/8 tcp,deny 10.0.0.0/8"
    assert format_acl(parse_acl(text)) == (
        "allow 10.0.0.0/8 tcp/80, allow 10.0.0.0/8 tcp, deny 10.0.0.0/8, deny 10.8.0.7/32, deny 2001:db8::/32 udp/53-60"
    )
    assert format_acl(parse_acl("")) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("drop 10.0.0.0/8", "no rule such as"),
        ("deny 10.0.0.1/8", "host bits"),
        ("deny 10.0.0.0/33", "33"),
        ("deny 10.0.0.0/8 tcp/0", "1 to 65535"),
        ("deny 10.0.0.0/8 tcp/9-8", "1 to 65535"),
        ("deny 10.0.0.0/8 icmp/8", "has no ports"),
        ("deny 10.0.0.0/8 teecp", 'no protocol "teecp"'),
        ("deny 10.0.0.0/8 256", "no protocol"),
        ("deny 10.0.0.0/8, allow 10.0.0.0/8", "contradict each other"),
        (", ".join(f"deny 10.0.0.0/8 tcp/{port}" for port in range(1, 18)), "17 rules with those around it"),
        (", ".join(f"deny 10.{n // 256}.{n % 256}.0/24" for n in range(4097)), "over the limit of 4096"),
    ],
)
def test_what_is_no_list_says_why(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_acl(text)


def test_a_prefix_has_the_rules_of_those_around_it_behind_its_own() -> None:
    around = by_prefix(parse_acl("deny 10.0.0.0/8, allow 10.8.0.0/16 tcp/80, deny 10.8.1.0/24 udp, deny fd08::/16"))
    assert {str(source): format_acl(rules[:1]) for source, rules in around.items()} == {
        "10.0.0.0/8": "deny 10.0.0.0/8",
        "10.8.0.0/16": "allow 10.8.0.0/16 tcp/80",
        "10.8.1.0/24": "deny 10.8.1.0/24 udp",
        "fd08::/16": "deny fd08::/16",
    }
    assert [len(rules) for rules in around.values()] == [1, 2, 3, 1]


@given(st.text(alphabet="alowdeny 0123456789./:,-tcpudp", max_size=60))
def test_any_text_is_a_list_or_one_line_of_reason(text: str) -> None:
    try:
        rules = parse_acl(text)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert parse_acl(format_acl(rules)) == rules


def test_programs_stand_in_their_order() -> None:
    assert parse_programs("acl, count") == ["count", "acl"]
    assert parse_programs("none") == []
    for text in ("acl, acl", "firewall", "none, acl"):
        with pytest.raises(ValueError, match=r"once each|no program"):
            parse_programs(text)


def test_what_no_program_uses_is_nothing() -> None:
    values: dict[str, str | int | bool] = {
        "programs": "count",
        "mode": "native",
        "stale_s": 5,
        "acl": "deny 10.0.0.0/8",
        "rate_pps": 7,
    }
    assert canonical(values) == {**NOTHING, "programs": "count", "mode": "native", "stale_s": 5}
    assert canonical({**values, "programs": "none"}) == NOTHING
    assert canonical(canonical(values)) == canonical(values)
