"""The host's own knobs on a kernel's own interfaces: clocks and C-states, memory by node, CPUs of services."""

import pytest

from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]
AGENT = "RACKHAND_OBSERVE=false /opt/rackhand/bin/rackhand-agent"
WORKER = "lab-worker"
START = f"""
ln -sf /usr/bin/python3 /tmp/{WORKER}
systemd-run -q --unit={WORKER} --slice=lab.slice /tmp/{WORKER} -c \
  'import threading, time; [threading.Thread(target=time.sleep, args=(90000,)).start() for _ in range(3)]'
"""
POLICY = """
name: host
knobs:
  cpu_power: {governor: performance, cpus: 2-3, wakeup_us: 5, idle_off: C1}
  core_pinning:
    units: user.slice=0-1 lab.slice=2-3
    partitions: lab.slice=isolated
    processes: lab-worker@/lab.slice/*=3
    workqueues: 0-1
  numa_memory:
    hugepages: node0/2M=16 node1/2M=8
    reserve_mb: 128
    numa_balancing: false
    thp: never
    thp_defrag: never
    zone_reclaim: 1
    memory_nodes: lab.slice=1
"""
# By shell and taskset alone, a line for each thing: what a policy of these knobs can change
LOOK = f"""
cd /sys/devices/system/cpu
grep -H . cpu*/cpufreq/scaling_governor cpu*/power/pm_qos_resume_latency_us cpu*/cpuidle/state*/disable
grep -H . /sys/devices/system/node/node*/hugepages/*/nr_hugepages /sys/kernel/mm/transparent_hugepage/{{enabled,defrag}}
grep -H . /proc/sys/kernel/numa_balancing /proc/sys/vm/zone_reclaim_mode /sys/devices/virtual/workqueue/cpumask
for unit in user lab; do
  for file in cpuset.cpus cpuset.mems cpuset.cpus.partition; do
    echo "$unit.slice/$file:$(cat /sys/fs/cgroup/$unit.slice/$file 2>/dev/null)"
  done
done
echo "isolated:$(cat /sys/fs/cgroup/cpuset.cpus.isolated)"
pgrep -x {WORKER} | xargs -r taskset -acp | sed 's/.*pid \\(.*\\).s current affinity list: /thread \\1:/'
"""


def look(bench: Bench) -> dict[str, str]:
    lines = bench.guest.run("bash -s", stdin=LOOK.encode()).splitlines()
    return {name: text for name, _, text in (line.rpartition(":") for line in lines)}


def apply(bench: Bench, policy: str) -> str:
    bench.guest.run("cat > /tmp/policy.yaml", stdin=policy.encode())
    return bench.guest.run(f"{AGENT} apply /tmp/policy.yaml --yes 2>&1 || true", timeout_s=300)


@pytest.fixture
def staffed(server: Bench) -> Bench:
    """The server with a service of several threads that has run for a while."""
    server.guest.run(START)
    age = f"ps -o etimes= -p $(pgrep -x {WORKER} || echo 0)"
    wait_for(lambda: int(server.guest.run(f"{age} || echo 0").strip() or 0) > 11, f"{WORKER} to be of age")
    return server


def test_clocks_memory_and_cpus_are_as_the_policy_says_and_as_before_after_a_rollback(staffed: Bench) -> None:
    before = look(staffed)
    said = apply(staffed, POLICY)
    now = look(staffed)
    assert "FAILED" not in said.upper(), said
    assert {text for name, text in now.items() if name.endswith("scaling_governor")} == {"performance"}
    latencies = {name.split("/")[0]: text for name, text in now.items() if name.endswith("latency_us")}
    assert latencies == {"cpu0": "0", "cpu1": "0", "cpu2": "5", "cpu3": "5"}
    assert [now[f"cpu{cpu}/cpuidle/state1/disable"] for cpu in range(4)] == ["0", "0", "1", "1"]
    pages = "/sys/devices/system/node/node{}/hugepages/hugepages-2048kB/nr_hugepages"
    assert [now[pages.format(node)] for node in range(2)] == ["16", "8"]
    assert now["/proc/sys/kernel/numa_balancing"] == "0"
    assert now["/proc/sys/vm/zone_reclaim_mode"] == "1"
    assert "[never]" in now["/sys/kernel/mm/transparent_hugepage/enabled"]
    assert "[never]" in now["/sys/kernel/mm/transparent_hugepage/defrag"]
    assert now["/sys/devices/virtual/workqueue/cpumask"] in ("3", "03")
    assert now["user.slice/cpuset.cpus"] == "0-1"
    assert now["lab.slice/cpuset.cpus"] == "2-3"
    assert now["lab.slice/cpuset.cpus.partition"] == "isolated"
    assert now["lab.slice/cpuset.mems"] == "1"
    assert now["isolated"] == "2-3"
    threads = {text for name, text in now.items() if name.startswith("thread ")}
    assert threads == {"3"}

    staffed.guest.run(f"{AGENT} rollback --yes", timeout_s=300)
    after = look(staffed)
    assert {name: (text, after.get(name)) for name, text in before.items() if after.get(name) != text} == {}


@pytest.mark.soak
def test_what_half_came_and_what_is_too_hot_is_as_before_with_the_reason(server: Bench) -> None:
    total = "awk '/MemTotal/{print int($4 / 2048)}' /sys/devices/system/node/node1/meminfo"
    count = int(server.guest.run(total))
    before = look(server)
    said = apply(server, f"name: huge\nknobs: {{numa_memory: {{hugepages: node1/2M={count}, reserve_mb: 64}}}}")
    assert f"of {count} pages came" in said
    assert look(server) == before

    fast = "name: fast\nknobs: {cpu_power: {governor: performance}}"
    governors = "cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor | sort -u"
    with server.values() as values:
        values.set("cpu_c", values.get("passive_c") + 3)
        assert "too hot: acpitz is past its passive trip point" in apply(server, fast)
        assert server.guest.run(governors).split() == ["schedutil"]
        values.set("cpu_c", 45)
        apply(server, fast)
        assert server.guest.run(governors).split() == ["performance"]
        values.set("cpu_c", values.get("passive_c") + 3)
        apply(server, fast)
        assert server.guest.run(governors).split() == ["schedutil"]
        values.set("cpu_c", 45)
