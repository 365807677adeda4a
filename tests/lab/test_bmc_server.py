"""A server's own BMC: read from inside and over the network, its power switch and its console."""

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pollers import ipmi, ipmi_console
from tests.lab.conftest import Bench, wait_for
from tests.lab.test_bmc_polling import bmc_fact, run, secret, target

pytestmark = [pytest.mark.lab, pytest.mark.soak]

COLLECT = """
import json, msgspec
from collectors import bmc
from collectors.run import run
from machine.live import Live
result = run(bmc, Live(), 0)
facts = [json.loads(msgspec.json.encode(fact)) for fact in result.facts]
print(json.dumps([result.status, result.reason, facts, [[one.metric, one.value] for one in result.samples]]))
"""


@pytest.fixture
def bench(server: Bench) -> Iterator[Bench]:
    """A server whose BMC answers inside; it is as new again after the test."""
    wait_for(lambda: server.guest.attempt("ipmitool mc info").returncode == 0, "the BMC inside")
    yield server
    server.bmc.renew()


def inside(bench: Bench) -> tuple[str, str, list[dict[str, Any]], dict[str, float]]:
    status, reason, facts, samples = json.loads(bench.python(COLLECT))
    return status, reason, facts, dict(samples)


def test_the_server_and_the_network_tell_the_same_of_one_bmc(bench: Bench) -> None:
    status, reason, (own,), samples = inside(bench)
    assert (status, reason) == ("ok", "")
    polled = run(ipmi.poll(target(bench.bmc), secret(bench.bmc)))
    fact = bmc_fact(polled)
    for name in ("version", "ipmi_version", "manufacturer_id", "product_id", "mac", "power", "system_uuid"):
        assert own[name] == getattr(fact, name), name
    assert own.get("guid", fact.guid) == fact.guid  # the simulator tells it on the network alone
    assert own["address"] == f"192.0.2.{bench.vm.server.number}"
    assert (own["address_source"], own["netmask"], own["gateway"]) == ("static", "255.255.255.0", "192.0.2.254")
    assert samples["bmc.sel_entries"] == next(s.value for s in polled.samples if s.metric == "ipmi.sel_entries")
    bench.bmc.set("CPU1 Temp", 93)
    wait_for(lambda: inside(bench)[3]["bmc.sel_entries"] == samples["bmc.sel_entries"] + 2, "two entries, inside")


def test_a_hung_bmc_is_a_failure_inside_and_comes_back(bench: Bench) -> None:
    bench.bmc.hang()
    status, reason, facts, _ = inside(bench)
    assert (status, facts) == ("failed", [])
    assert "BMC" in reason
    bench.bmc.revive()
    wait_for(lambda: inside(bench)[0] == "ok", "the BMC inside again")


def test_power_by_the_command_line_is_real_and_audited(loop: Bench, tmp_path: Path) -> None:
    bmc, vm = loop.bmc, loop.vm
    secrets = tmp_path / "secrets.toml"
    secrets.touch(mode=0o600)
    secrets.write_text(f'[bmc]\nusername = "admin"\npassword = "{bmc.password}"\n')
    way = ["bmc", "--address", "127.0.0.1", "--port", str(bmc.ports.lan), "--secrets", str(secrets), vm.server.name]
    first = loop.guest.read("/proc/sys/kernel/random/boot_id")
    assert loop.lab.ask(*way, "power", "status")[0]["state"] == "on"
    assert loop.lab.ask(*way, "power", "off", "--yes")[0]["state"] == "off"
    wait_for(lambda: not vm.on, "the server without power")
    loop.guest.hang_up()
    assert loop.lab.ask(*way, "power", "on", "--yes")[0]["state"] == "on"
    vm.wait_ready()
    assert loop.guest.read("/proc/sys/kernel/random/boot_id") != first
    audited = [event["text"] for event in loop.lab.ask("events", "-n", "1000") if event["kind"] == "bmc.command"]
    assert [text.partition(": ")[2] for text in audited] == [
        f"power {word}: {outcome}" for word in ("off", "on") for outcome in ("asked", "done")
    ]


def test_the_console_passes_both_ways(bench: Bench) -> None:
    keys, screen = os.pipe(), os.pipe()
    heard = bytearray()
    watched = threading.Thread(target=lambda: _drain(screen[0], heard), daemon=True)
    watched.start()
    talk = threading.Thread(
        target=ipmi_console.run, args=(target(bench.bmc), secret(bench.bmc), keys[0], screen[1]), kwargs={"force": True}
    )
    bench.guest.run("systemctl stop serial-getty@ttyS1; stty -F /dev/ttyS1 raw -echo 115200")
    bench.guest.run("setsid sh -c 'head -n 1 /dev/ttyS1 > /tmp/typed' >/dev/null 2>&1 </dev/null &")
    talk.start()

    def spoken() -> bool:
        bench.guest.run("echo the-guest-speaks > /dev/ttyS1")
        return b"the-guest-speaks" in heard

    wait_for(spoken, "the guest's words on the screen")
    os.write(keys[1], b"typed-here\n")
    wait_for(lambda: b"typed-here" in bench.guest.attempt("cat /tmp/typed").stdout, "the keys in the guest")
    os.write(keys[1], b"~.")
    talk.join(60)
    assert not talk.is_alive()
    os.close(screen[1])
    watched.join(10)
    for handle in (*keys, screen[0]):
        os.close(handle)


def _drain(handle: int, into: bytearray) -> None:
    with contextlib.suppress(OSError):
        while said := os.read(handle, 4096):
            into += said
