"""Hundreds of virtual functions: more than any NIC that can be emulated has, of a simulated one."""

import json
import re
import time
from typing import Any

import pytest

from tests.lab.conftest import Bench

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.soak]
VFS = 256
COUNT = """
from machine import linkinfo, rtnl
from machine.live import Live
machine = Live()
(index,) = [link.ifindex for link in rtnl.read_links(machine) if link.ifname == "{ifname}"]
print(*(vf.number for vf in linkinfo.read_vfs(machine, index)))
"""
REPRESENTOR = re.compile(r"pf\d+vf\d+$")


def test_the_agent_reads_hundreds_of_virtual_functions_and_their_representors(server: Bench) -> None:
    folder, guest = "/sys/bus/netdevsim", server.guest
    guest.run(f"modprobe netdevsim; echo '7 1' > {folder}/new_device; udevadm settle")
    (name,) = guest.run(f"ls {folder}/devices/netdevsim7/net").split()
    guest.write("/sys/kernel/debug/netdevsim/netdevsim7/max_vfs", str(VFS))
    guest.run(f"echo {VFS} > {folder}/devices/netdevsim7/sriov_numvfs")
    guest.run("devlink dev eswitch set netdevsim/netdevsim7 mode switchdev; udevadm settle -t 120", timeout_s=300)
    begun = time.monotonic()
    said: dict[str, Any] = json.loads(guest.run("/opt/rackhand/bin/rackhand-agent once -o json", timeout_s=600))
    print(f"{VFS} virtual functions: one sweep by a new process takes {time.monotonic() - begun:.1f} s here")
    facts: list[dict[str, Any]] = said["facts"]
    links = {fact["ifname"] for fact in facts if fact["kind"] == "nic"}
    assert len({link for link in links if REPRESENTOR.search(link)}) == VFS, sorted(links)[:20]
    counted = server.python(COUNT.format(ifname=name)).split()
    assert counted == [str(number) for number in range(VFS)]
    assert {one["status"] for one in said["collectors"].values()} <= {"ok", "absent"}
    guest.run(f"echo 7 > {folder}/del_device", timeout_s=300)
    guest.run("udevadm settle -t 120", timeout_s=200)
    assert not [link for link in guest.run("ls /sys/class/net").split() if link == name or REPRESENTOR.search(link)]
