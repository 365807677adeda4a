"""Boot parameters as the kernel takes them: quotes, repetitions, spellings, and what is for init."""

import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import cmdline
from collectors.cmdline import PARAMETERS, Parameter, described, parse_cmdline, parse_hugepages, parse_size
from collectors.run import run
from machine.live import Live
from tests.collectors.conftest import write
from wire.facts import Cmdline
from wire.report import Status

PATH = "proc/cmdline"


def of(data: Path, name: str) -> Cmdline:
    """The fact of a capture."""
    with tarfile.open(data / name) as archive:
        member = next(one for one in archive if one.name.endswith(PATH))
        file = archive.extractfile(member)
        assert file
        return described(parse_cmdline(file.read().decode()))


def test_a_server_that_was_tuned_for_real_time(data: Path) -> None:
    fact = of(data, "numa-topology/openshift-nto/worker1.internal.sysinfo.tgz")
    assert fact.effective == {
        "skew_tick": "1",
        "tsc": "reliable,reliable",
        "nohz": "on",
        "rcu_nocbs": "0-4,11-79",
        "intel_iommu": "on",
        "iommu": "pt",
        "isolcpus": "managed_irq,0-4,11-79",
        "nohz_full": "0-4,11-79",
        "nosoftlockup": "",
        "nmi_watchdog": "0",
        "mce": "off",
        "default_hugepagesz": "1G",
        "hugepagesz": "2M",
        "hugepages": "0",
        "intel_pstate": "disable",
        "audit": "0",
        "idle": "poll",
        "intel_idle.max_cstate": "0",
        "processor.max_cstate": "1",
    }
    assert fact.given["skew_tick"] == ["1", "1"]
    assert fact.hugepages == {"2M": "0"}


@pytest.mark.parametrize(
    ("name", "effective"),
    [
        ("numa-topology/openshift-nto/master.internal.sysinfo.tgz", {}),
        ("numa-topology/hwloc/128arm-2pa2n8cluster4co.tar.bz2", {"iommu.passthrough": "1"}),
        ("numa-topology/hwloc/nvidiagpunumanodes.tar.bz2", {}),
        ("numa-topology/hwloc/20em64t-hybrid-1p6c2t+2ca4co1t.tar.bz2", {}),
        ("numa-topology/hwloc/32intel64-2p8co2t+8ve.tar.bz2", {}),
    ],
)
def test_servers_with_few_parameters(data: Path, name: str, effective: dict[str, str]) -> None:
    assert of(data, name).effective == effective


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("quiet", [("quiet", None)]),
        ("  ro\troot=/dev/sda1\n", [("ro", None), ("root", "/dev/sda1")]),
        ("a= b", [("a", ""), ("b", None)]),
        ('dyndbg="file a.c +p" x', [("dyndbg", "file a.c +p"), ("x", None)]),
        ('"dyndbg=file a.c +p" x', [("dyndbg", "file a.c +p"), ("x", None)]),
        ('"two words"', [("two words", None)]),
        ('a=b"c d"e', [("a", 'b"c d"e')]),
        ('a="open', [("a", "open")]),
        ("a=b=c", [("a", "b=c")]),
        ("=x", [("=x", None)]),
        ("intel-iommu=on nohz-full=1", [("intel_iommu", "on"), ("nohz_full", "1")]),
        ("ro -- nosmt audit=0", [("ro", None)]),
        ("ro --x nosmt", [("ro", None), ("__x", None), ("nosmt", None)]),
        ("", []),
    ],
)
def test_words_are_parted_as_the_kernel_does(text: str, parameters: list[tuple[str, str | None]]) -> None:
    assert parse_cmdline(text) == [Parameter(*one) for one in parameters]


@pytest.mark.parametrize(
    ("text", "name", "counts"),
    [
        ("mitigations=auto mitigations=off", "mitigations", "off"),
        ("isolcpus=1-3 isolcpus=4-7", "isolcpus", "1-3"),
        ("nohz_full=1-3 nohz-full=4", "nohz_full", "1-3"),
        ("iommu=pt iommu=strict", "iommu", "pt,strict"),
        ("nosmt nosmt=force", "nosmt", "force"),
    ],
)
def test_of_a_parameter_that_is_given_again_the_kernels_choice_counts(text: str, name: str, counts: str) -> None:
    fact = described(parse_cmdline(text))
    assert fact.effective[name] == counts
    assert len(fact.given[name]) == 2


@pytest.mark.parametrize(
    ("text", "pages"),
    [
        ("hugepages=64", {"default": "64"}),
        ("default_hugepagesz=1G hugepagesz=1G hugepages=16 hugepagesz=2M hugepages=512", {"1G": "16", "2M": "512"}),
        ("hugepagesz=1048576K hugepages=0:8,1:8", {"1G": "0:8,1:8"}),
        ("hugepagesz=2M hugepages=1 hugepages=2", {"2M": "1"}),
        ("hugepagesz=odd hugepages=5", {}),
        ("hugepagesz=2M hugepages=many", {}),
        ("hugepagesz=2M", {}),
    ],
)
def test_huge_pages_are_of_the_size_before_them(text: str, pages: dict[str, str]) -> None:
    assert parse_hugepages(parse_cmdline(text)) == pages


def test_sizes_have_the_largest_unit_that_leaves_a_whole_number() -> None:
    said = ["2M", "2048K", "1g", "16G", "1536K", "4096", "1", "0", "-1", "x"]
    assert [parse_size(text) for text in said] == ["2M", "2M", "1G", "16G", "1536K", "4K", "1", "", "", ""]


def test_what_is_not_in_the_table_stays_out_of_the_fact(tmp_path: Path) -> None:
    write(tmp_path, {PATH: "rd.iscsi.password=hunter22 audit=0 cryptkey=abc\n"})
    result = run(cmdline, Live(str(tmp_path)), 0)
    assert result.facts == [Cmdline(given={"audit": ["0"]}, effective={"audit": "0"})]


def test_a_machine_without_the_file_is_absent_and_an_empty_one_has_none(tmp_path: Path) -> None:
    assert run(cmdline, Live(str(tmp_path)), 0).status is Status.ABSENT
    write(tmp_path, {PATH: "\n"})
    assert run(cmdline, Live(str(tmp_path)), 0).facts == [Cmdline()]


@given(st.text(max_size=300) | st.lists(st.sampled_from([*PARAMETERS, "=", '"', " ", "--", "1G", "0:1"])).map("".join))
def test_any_text_is_parameters(text: str) -> None:
    fact = described(parse_cmdline(text))
    assert set(fact.given) == set(fact.effective) <= set(PARAMETERS)
    assert all(value.isprintable() for values in fact.given.values() for value in values)


@given(st.lists(st.tuples(st.sampled_from(sorted(PARAMETERS)), st.text("a0,-: ", min_size=1)), max_size=8))
def test_quoted_values_come_back(pairs: list[tuple[str, str]]) -> None:
    text = " ".join(f'{name}="{value}"' for name, value in pairs)
    assert parse_cmdline(text) == [Parameter(name, value) for name, value in pairs]
