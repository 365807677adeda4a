"""Slices, processes and shares of cache, as kernels show them."""

from pathlib import Path
from typing import Any

import pytest

from collectors import cpufreq, memory, processes, resctrl, slices
from collectors.slices import read_cgroup
from machine import NotPresentError
from machine.live import Live
from wire.facts import CacheGroup, CacheResource, Process, Slices, UncoreDomain, Unit

STAT = "40 (a (b) c) S 1 40 40 0 -1 {flags} 0 0 0 0 1 1 0 0 20 0 1 0 {start} 1 1"


def tree(root: Path, files: dict[str, str]) -> Live:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return Live(str(root))


CGROUPS = {
    "run/systemd/system/x": "",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory",
    "sys/fs/cgroup/app.slice/cpuset.cpus": "2-3",
    "sys/fs/cgroup/app.slice/cpuset.cpus.effective": "2-3",
    "sys/fs/cgroup/app.slice/cpuset.mems": "1",
    "sys/fs/cgroup/app.slice/cpuset.cpus.partition": "isolated",
    "sys/fs/cgroup/system.slice/ssh.service/cgroup.procs": "70",
    "sys/fs/cgroup/system.slice/dev-hugepages.mount/cgroup.procs": "",
    "sys/devices/virtual/workqueue/cpumask": "0000000f",
    "proc/70/comm": "sshd",
    "proc/70/cgroup": "1:name=systemd:/elsewhere\n0::/system.slice/ssh.service",
    "proc/71/comm": "sshd-session",
    "proc/71/cgroup": "0::/user.slice/user-0.slice/session-1.scope",
    "proc/self/cgroup": "0::/system.slice/rackhand-agent.service",
}


def test_units_their_cpus_and_who_must_have_some(tmp_path: Path) -> None:
    (fact,) = slices.collect(tree(tmp_path, CGROUPS))
    assert fact == Slices(
        units=[
            Unit(path="/app.slice", cpus="2-3", effective="2-3", mems="1", partition="isolated"),
            Unit(path="/system.slice"),
            Unit(path="/system.slice/ssh.service"),
        ],
        cpuset=True,
        workqueues="0-3",
        keepers=[
            "/system.slice/rackhand-agent.service",
            "/system.slice/ssh.service",
            "/user.slice/user-0.slice/session-1.scope",
        ],
    )


@pytest.mark.parametrize("without", ["run/systemd/system/x", "sys/fs/cgroup/cgroup.controllers"])
def test_without_systemd_or_cgroup_v2_there_are_no_slices(tmp_path: Path, without: str) -> None:
    live = tree(tmp_path, {name: text for name, text in CGROUPS.items() if name != without})
    with pytest.raises(NotPresentError, match="no systemd with cgroup v2"):
        list(slices.collect(live))
    assert read_cgroup(live, "99") == ""


def process(pid: int, start: int, flags: int = 0, **threads: str) -> dict[str, str]:
    files = {f"proc/{pid}/stat": STAT.format(flags=flags, start=start), f"proc/{pid}/cgroup": "0::/app.slice"}
    found = {
        f"proc/{pid}/task/{tid[1:]}/status": f"Name:\tx\nCpus_allowed_list:\t{cpus}" for tid, cpus in threads.items()
    }
    return {**files, **found}


def test_processes_that_stay_with_their_threads(tmp_path: Path) -> None:
    files = {"proc/uptime": "100.5 3.0", **process(40, 7, t40="0-3", t41="2", t42="0-3")}
    files |= process(50, 9950, t50="0-3") | process(60, 0, flags=0x00200040, t60="0-3") | {"proc/80/stat": "80 (x"}
    (fact,) = processes.collect(tree(tmp_path, files))
    threads = {"0-3": [40, 42], "2": [41]}
    assert fact.processes == [Process(pid=40, start=7, comm="a (b) c", cgroup="/app.slice", threads=threads)]
    assert fact.left_out == 0


def test_beyond_the_most_processes_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MOST", 1)
    (fact,) = processes.collect(
        tree(tmp_path, {"proc/uptime": "100.5", **process(40, 7, t40="0"), **process(41, 7, t41="0")})
    )
    assert ([one.pid for one in fact.processes], fact.left_out) == ([40], 1)


@pytest.mark.parametrize(
    "text", ["", "40 (x) S", "40 x S 1", STAT.format(flags="x", start=7), STAT.format(flags=0, start="-")]
)
def test_what_is_no_stat_is_nothing(text: str) -> None:
    assert processes.parse_stat(text) is None


RESCTRL = {
    "info/L3/num_closids": "16",
    "info/L3/cbm_mask": "7ff",
    "info/L3/min_cbm_bits": "1",
    "info/MB/num_closids": "8",
    "info/MB/min_bandwidth": "10",
    "info/MB/bandwidth_gran": "10",
    "info/L3_MON/num_rmids": "144",
    "schemata": "    MB:0=100;1=100\n    L3:0=7ff;1=7FF",
    "cpus_list": "0-7",
    "mode": "shareable",
    "tasks": "1\n2",
    "net/schemata": "    MB:0= 50;1=100\n    L3:0=00f;1=7ff",
    "net/cpus_list": "",
    "net/mode": "exclusive",
    "net/tasks": "41\n40",
    "mon_groups/x/tasks": "",
}


def test_shares_of_cache(tmp_path: Path) -> None:
    (fact,) = resctrl.collect(tree(tmp_path, {f"sys/fs/resctrl/{name}": text for name, text in RESCTRL.items()}))
    assert fact.resources == [
        CacheResource(name="L3", cbm_mask="7ff", min_cbm_bits=1, closids=16),
        CacheResource(name="MB", closids=8, min_percent=10, step_percent=10),
    ]
    assert fact.groups == [
        CacheGroup(
            mode="shareable", cpus="0-7", schemata={"MB": {"0": "100", "1": "100"}, "L3": {"0": "7ff", "1": "7ff"}}
        ),
        CacheGroup(
            name="net",
            mode="exclusive",
            schemata={"MB": {"0": "50", "1": "100"}, "L3": {"0": "00f", "1": "7ff"}},
            tasks=[40, 41],
        ),
    ]


def test_what_can_be_set_of_a_cpu(tmp_path: Path) -> None:
    policy = "sys/devices/system/cpu/cpufreq/policy{}/"
    words: dict[str, Any] = {
        "scaling_driver": "intel_pstate",
        "scaling_governor": "powersave",
        "scaling_available_governors": "performance powersave",
        "energy_performance_preference": "balance_power",
        "energy_performance_available_preferences": "default performance power",
    }
    files = {policy.format(cpu) + name: text for cpu in (0, 2) for name, text in words.items()}
    files |= {policy.format(cpu) + "affected_cpus": f"{cpu} {cpu + 1}" for cpu in (0, 2)}
    files |= {f"sys/devices/system/cpu/cpu{cpu}/power/energy_perf_bias": "6" for cpu in range(4)}
    files |= {
        f"sys/devices/system/cpu/cpu{cpu}/power/pm_qos_resume_latency_us": ("0", "n/a")[cpu % 2] for cpu in range(4)
    }
    uncore = "sys/devices/system/cpu/intel_uncore_frequency/package_00_die_00/{}_freq_khz"
    limits = {"min": 1, "max": 4, "initial_min": 2, "initial_max": 3}
    files |= {uncore.format(name): f"{number}00000" for name, number in limits.items()}
    files |= {
        "sys/devices/system/cpu/intel_pstate/no_turbo": "1",
        "sys/devices/system/cpu/intel_pstate/min_perf_pct": "33",
    }
    (fact,) = cpufreq.collect(tree(tmp_path, files))
    (found,) = fact.policies
    assert (found.cpus, found.leaders, found.governor, found.preference) == ("0-3", "0,2", "powersave", "balance_power")
    assert (found.governors, found.preferences) == (["performance", "powersave"], ["default", "performance", "power"])
    assert (fact.biases, fact.wakeups) == ({"6": "0-3"}, {"0": "0,2", "n/a": "1,3"})
    assert (fact.turbo, fact.turbo_file, fact.min_perf_pct) == (False, "intel_pstate/no_turbo", 33)
    domain = UncoreDomain(name="package_00_die_00", min_khz=100000, max_khz=400000)
    domain.initial_min_khz, domain.initial_max_khz = 200000, 300000
    assert fact.uncore == [domain]


def test_huge_pages_in_use_and_promised(tmp_path: Path) -> None:
    pool = "sys/devices/system/node/node0/hugepages/hugepages-2048kB/"
    live = tree(
        tmp_path,
        {
            "proc/meminfo": "MemTotal:  4096 kB",
            f"{pool}nr_hugepages": "10",
            f"{pool}free_hugepages": "4",
            "sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages": "3",
            "sys/kernel/mm/transparent_hugepage/defrag": "always defer [defer+madvise] madvise never",
            "proc/sys/kernel/numa_balancing": "2",
        },
    )
    (fact,) = memory.collect(live)
    assert (fact.hugepages, fact.hugepages_used) == ({"node0/2048kB": 10}, {"node0/2048kB": 6})
    assert (fact.hugepages_promised, fact.thp_defrag, fact.numa_balancing) == ({"2048kB": 3}, "defer+madvise", 2)
    assert fact.zone_reclaim is None
