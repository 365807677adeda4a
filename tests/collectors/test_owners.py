"""Who else sets what: the files of each as their manuals describe them."""

from pathlib import Path

import pytest

from collectors import owners
from collectors.ownerfiles import parse_sysctl
from collectors.run import run
from machine.capture import Recording
from machine.live import Live
from tests.collectors.conftest import write
from wire.facts import Claim, Owner
from wire.report import Status

SERVICES = "sys/fs/cgroup/system.slice"
MAC = "52:54:00:aa:00:01"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with one igb, eth0, whose name in sysfs is its key's MAC."""
    device = "sys/devices/pci0000:00/0000:00:1d.0"
    write(tmp_path, {f"{device}/vendor": "0x8086", "sys/bus/pci/drivers/igb/bind": ""})
    (tmp_path / device / "driver").symlink_to("/sys/bus/pci/drivers/igb")
    net = {"ifindex": "2", "flags": "0x1003", "type": "1", "address": MAC, "mtu": "1500", "iflink": "2"}
    write(tmp_path, {f"sys/class/net/eth0/{name}": text for name, text in net.items()})
    (tmp_path / "sys/class/net/eth0/device").symlink_to(f"/{device}")
    return tmp_path


def found(root: Path) -> dict[str, Owner]:
    result = run(owners, Live(str(root)), 0)
    return {fact.key: fact for fact in result.facts if isinstance(fact, Owner)}


def said(owner: Owner) -> list[tuple[str, str, str]]:
    return [(claim.what, claim.value, claim.nic) for claim in owner.claims]


def test_a_machine_that_nobody_else_tunes_has_none(root: Path) -> None:
    assert run(owners, Live(str(root)), 0).status is Status.ABSENT


TUNED: dict[str, str | bytes] = {
    f"{SERVICES}/tuned.service/cgroup.procs": "7",
    "etc/tuned/active_profile": "edge\n",
    "usr/lib/tuned/profiles/base/tuned.conf": """
[main]
summary=what others build on
[variables]
lowat=131072
[cpu]
governor=performance
force_latency=cstate.id:1|3
[sysctl]
net.core.somaxconn=>2048
net.ipv4.tcp_rmem="4096 131072 16777216"
net.ipv4.tcp_notsent_lowat=${lowat}
[vm]
transparent_hugepages=madvise
[disk]
readahead=>4096
""",
    "usr/lib/tuned/edge/tuned.conf": "[main]\ninclude=elsewhere\n",  # hidden by the administrator's
    "etc/tuned/edge/tuned.conf": """
[main]
include=base
[nics]
type=net
devices=eth*,!eth9
features=gro on lro off
coalesce=adaptive-rx off rx-usecs 3 rx-frames 8
ring=rx 1024
channels=combined 2
[more nics]
type=net
devices=ens*
mtu=9000
[off]
type=irq
enabled=0
affinity=0-3
[vm]
replace=1
transparent_hugepages=never
[sysctl]
net.core.somaxconn=>4096
[sysfs]
/sys/class/net/eth*/queues/rx-*/rps_cpus=f
""",
}


def test_tuneds_profile_and_those_it_includes(root: Path) -> None:
    write(root, TUNED)
    tuned = found(root)["tuned"]
    assert (tuned.name, tuned.running, tuned.profile) == ("TuneD", True, "edge")
    assert sorted(said(tuned)) == sorted(
        [
            ("cpu governor", "performance", ""),
            ("cpu latency", "cstate.id:1|3", ""),
            ("sysctl net.core.somaxconn", "=>4096".removeprefix("="), ""),
            ("sysctl net.ipv4.tcp_rmem", "4096 131072 16777216", ""),
            ("sysctl net.ipv4.tcp_notsent_lowat", "131072", ""),
            ("memory thp", "never", ""),
            ("features gro", "on", MAC),
            ("features lro", "off", MAC),
            ("coalesce use_adaptive_rx", "off", MAC),
            ("coalesce rx_usecs", "3", MAC),
            ("coalesce rx_max_frames", "8", MAC),
            ("rings rx", "1024", MAC),
            ("channels combined", "2", MAC),
            ("file /sys/class/net/eth*/queues/rx-*/rps_cpus", "f", ""),
        ]
    )
    sources = {claim.what: claim.source for claim in tuned.claims}
    assert sources["sysctl net.core.somaxconn"] == "/etc/tuned/edge/tuned.conf"
    assert sources["cpu governor"] == "/usr/lib/tuned/profiles/base/tuned.conf"


def test_a_tuned_that_does_not_run_sets_nothing_and_one_by_hand_is_found(root: Path) -> None:
    write(root, {name: text for name, text in TUNED.items() if not name.startswith(SERVICES)})
    assert found(root) == {}
    write(root, {"run/tuned/tuned.pid": "812", "proc/812/cmdline": "/usr/bin/python3\0-Es\0/usr/sbin/tuned\0-d"})
    assert found(root)["tuned"].running
    write(root, {"proc/812/cmdline": "/bin/something else"})
    assert found(root) == {}


def test_profiles_that_include_each_other_end(root: Path) -> None:
    loop = "[main]\ninclude=%s\n[cpu]\ngovernor=%s\n"
    files = {"etc/tuned/edge/tuned.conf": loop % ("b", "one"), "etc/tuned/b/tuned.conf": loop % ("edge", "two")}
    write(root, {**TUNED, **files})
    assert said(found(root)["tuned"]) == [("cpu governor", "one", "")]


def test_systemds_link_file_is_the_first_that_matches(root: Path) -> None:
    folder = "etc/systemd/network"
    write(
        root,
        {
            f"{folder}/10-other.link": "[Match]\nMACAddress=02:00:00:00:00:01\n[Link]\nMTUBytes=1280\n",
            f"{folder}/20-igb.link": f"[Match]\nDriver=ig*\nMACAddress={MAC.upper()}\n[Link]\nRxBufferSize=max\n"
            "CombinedChannels=2\nNTupleFilter=true\nName=lan0\n",
            f"{folder}/30-all.link": "[Match]\nOriginalName=*\n[Link]\nMTUBytes=9000\n",
            "usr/lib/systemd/network/20-igb.link": "[Match]\nOriginalName=*\n[Link]\nMTUBytes=4000\n",
        },
    )
    assert said(found(root)["link"]) == [
        ("rings rx", "max", MAC),
        ("channels combined", "2", MAC),
        ("features ntuple", "true", MAC),
    ]


def test_udevs_rules_that_write_into_queues_and_nics(root: Path) -> None:
    write(
        root,
        {
            "etc/udev/rules.d/50-tune.rules": "# rps_cpus in a comment\n"
            'SUBSYSTEM=="queues", ACTION=="add", KERNEL=="rx-*", ATTR{rps_cpus}="f"\n'
            'ACTION=="add", SUBSYSTEM=="net", NAME=="eth0|eth1", RUN+="/sbin/ethtool -G $name rx 4096", \\\n'
            '  RUN+="/sbin/ethtool -K $name lro off"\n'
            f'SUBSYSTEM=="net", ATTR{{address}}=="{MAC}", ATTR{{threaded}}="1"\n'
            'SUBSYSTEM=="net", DRIVERS=="mlx5_core", ATTR{device/sriov_numvfs}="4"\n'
            'SUBSYSTEM=="net", KERNEL=="eth0", ATTR{mtu}=="1500", TAG+="x"\n',
        },
    )
    assert sorted(said(found(root)["udev"])) == [
        ("features *", "", MAC),
        ("napi threaded", "", MAC),
        ("queues rps_cpus", "", ""),
        ("rings *", "", MAC),
    ]


def test_networkmanagers_profiles_count_while_it_runs(root: Path) -> None:
    folder = "etc/NetworkManager/system-connections"
    write(
        root,
        {
            f"{folder}/lan.nmconnection": "[connection]\nid=lan\ninterface-name=eth0\n[ethernet]\nmtu=9000\n"
            "[ethtool]\nfeature-gro=false\ncoalesce-rx-usecs=10\nring-rx=2048\npause-autoneg=true\neee-enabled=false\n",
            f"{folder}/other.nmconnection": "[connection]\ninterface-name=eth7\n[ethtool]\nring-rx=1\n",
            f"{folder}/any.nmconnection": "[connection]\nid=any\n[ethtool]\nring-tx=64\n",
            f"{folder}/wifi.nmconnection": "[connection]\nid=w\n[wifi-security]\npsk=secret\n",
        },
    )
    assert found(root) == {}
    write(root, {f"{SERVICES}/NetworkManager.service/cgroup.procs": "9"})
    manager = found(root)["networkmanager"]
    assert sorted(said(manager)) == sorted(
        [
            ("link mtu", "9000", MAC),
            ("features gro", "false", MAC),
            ("coalesce rx_usecs", "10", MAC),
            ("rings rx", "2048", MAC),
            ("pause autoneg", "true", MAC),
            ("link eee", "false", MAC),
            ("rings tx", "64", ""),
        ]
    )


def test_a_capture_has_no_profile_with_its_passwords(root: Path) -> None:
    folder = "etc/NetworkManager/system-connections"
    write(root, {f"{folder}/w.nmconnection": "[connection]\nid=w\n[802-1x]\npassword=hunter2\n"})
    write(root, {f"{SERVICES}/NetworkManager.service/cgroup.procs": "9"})
    recording = Recording(Live(str(root)))
    assert run(owners, recording, 0).status is Status.OK
    assert "hunter2" in recording.dump(redact=False)
    assert "hunter2" not in recording.dump()


def test_power_profiles_and_systemds_own_watchdog(root: Path) -> None:
    write(root, {f"{SERVICES}/power-profiles-daemon.service/cgroup.procs": "9"})
    write(root, {"etc/systemd/system.conf": "[Manager]\nRuntimeWatchdogSec=off\n"})
    assert set(found(root)) == {"ppd"}
    write(root, {"etc/systemd/system.conf.d/wd.conf": "[Manager]\nRuntimeWatchdogSec=30s\n"})
    source = "/etc/systemd/system.conf.d/wd.conf"
    assert found(root)["systemd"].claims == [Claim(what="watchdog timeout", value="30s", source=source)]


def test_sysctl_d_in_its_order(root: Path) -> None:
    write(
        root,
        {
            "etc/sysctl.d/10-a.conf": "vm.nr_hugepages = 4\nkernel.numa_balancing=0\nkernel.panic=1\n",
            "usr/lib/sysctl.d/10-a.conf": "vm.nr_hugepages = 1\n",
            "usr/lib/sysctl.d/90-b.conf": "vm/nr_hugepages=8\n",
        },
    )
    assert said(found(root)["sysctl"]) == [
        ("sysctl kernel.numa_balancing", "0", ""),
        ("sysctl vm.nr_hugepages", "8", ""),
    ]


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("net.core.somaxconn = 4096", [("net.core.somaxconn", "4096")]),
        ("-net/ipv4/tcp_rmem=1\t2  3", [("net.ipv4.tcp_rmem", "1 2 3")]),
        ("net.ipv4.conf.eth0/1.rp_filter=1", [("net.ipv4.conf.eth0/1.rp_filter", "1")]),
        ("-net.ipv4.conf.all", []),
        ("net.ipv4.conf.*.rp_filter = 2", []),
        ("# a = b\n; c = d\n\n = x", []),
    ],
)
def test_lines_of_sysctl_d(text: str, pairs: list[tuple[str, str]]) -> None:
    assert list(parse_sysctl(text)) == pairs
