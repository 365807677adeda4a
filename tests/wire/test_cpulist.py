"""CPU lists and masks against the kernel's own spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.cpulist import format_cpulist, format_cpumask, parse_cpulist, parse_cpumask

SETS = st.sets(st.integers(0, 1200))


@given(SETS)
def test_lists_come_back(ids: set[int]) -> None:
    assert parse_cpulist(format_cpulist(ids)) == sorted(ids)


@given(SETS)
def test_masks_come_back(ids: set[int]) -> None:
    mask = format_cpumask(ids)
    assert parse_cpumask(mask) == sorted(ids)
    assert all(len(group) == 8 for group in mask.split(",")[1:])


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("0-3,8\n", [0, 1, 2, 3, 8]),
        ("0-7\n\0", list(range(8))),
        ("", []),
        ("\0", []),
        ("                (null)\n", []),
        ("0-62:2", list(range(0, 63, 2))),
        ("0,1", [0, 1]),
    ],
)
def test_spellings_seen_on_real_machines(text: str, ids: list[int]) -> None:
    assert parse_cpulist(text) == ids


@pytest.mark.parametrize("bad", ["x", "3-1", "-1", "0-99999999", "1,,2", "0-4:0"])
def test_what_is_no_list_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_cpulist(bad)


def test_masks_over_64_cpus() -> None:
    assert format_cpumask([0, 64]) == "1,00000000,00000001"
    assert parse_cpumask("ff00,00000000") == list(range(40, 48))
    assert format_cpumask([]) == "0"
