"""Notifications sent by net-snmp's snmptrap and snmpinform, heard on loopback."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from pollers.target import Secret, Target
from pollers.traps import Budget, Listener
from wire.report import Event, Severity

ENGINE = "80001f8880e9630000d61ff449"
LINK_DOWN = "1.3.6.1.6.3.1.1.5.3"
OUTLET_OFF = "1.3.6.1.4.1.318.0.269"
KEYS = ["-v3", "-l", "authPriv", "-a", "SHA", "-A", "lab-auth-key", "-x", "AES", "-X", "lab-priv-key"]
V3 = Secret(username="lab", auth="sha", auth_password="lab-auth-key", privacy="aes", privacy_password="lab-priv-key")


def device(name: str, address: str = "127.0.0.1") -> Target:
    return Target(name=name, protocol="snmp", address=address)


def hear(
    devices: dict[str, tuple[Target, Secret]],
    home: Path,
    commands: list[list[str]],
    until: Callable[[Listener, list[tuple[str, Event]]], bool],
    per_minute: float = 60.0,
) -> tuple[Listener, list[tuple[str, Event]]]:
    """What was told while the commands ran, and until then."""
    told: list[tuple[str, Event]] = []

    async def main() -> Listener:
        listener = Listener(devices, per_minute, lambda name, event: told.append((name, event)))
        serving = asyncio.create_task(listener.serve("127.0.0.1", 0))
        async with asyncio.timeout(60):
            while not listener.port:
                await asyncio.sleep(0.01)
            for name, (_, secret) in devices.items():
                if secret.username:
                    listener.learn(name, ENGINE)
            for command in commands:
                argv = [part.replace("PORT", str(listener.port)) for part in command]
                child = await asyncio.create_subprocess_exec(*argv, env={"SNMP_PERSISTENT_DIR": str(home), "MIBS": ""})
                await child.wait()
            while not until(listener, told):
                await asyncio.sleep(0.01)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return listener

    return asyncio.run(main()), told


def trap(oid: str, *values: str, community: str = "public", program: str = "/usr/bin/snmptrap") -> list[str]:
    return [program, "-v2c", "-c", community, "127.0.0.1:PORT", "", oid, *values]


def test_a_trap_of_a_device_is_an_event_with_its_name_and_values(tmp_path: Path) -> None:
    commands = [trap(OUTLET_OFF, "1.3.6.1.4.1.318.2.3.3.0", "s", "Outlet 3\033[2J off"), trap(LINK_DOWN)]
    _, told = hear({"pdu": (device("pdu"), Secret())}, tmp_path, commands, lambda _, told: len(told) == 2)
    assert [name for name, _ in told] == ["pdu", "pdu"]
    first, second = (event for _, event in told)
    assert (first.kind, first.severity) == ("snmp.trap", Severity.WARNING)
    assert first.text == "rPDUOutletOff: Outlet 3\N{REPLACEMENT CHARACTER}[2J off"
    assert first.data == {"oid": OUTLET_OFF, "1.3.6.1.4.1.318.2.3.3.0": "Outlet 3\N{REPLACEMENT CHARACTER}[2J off"}
    assert second.text == "linkDown"


def test_v3_authpriv_trap_and_inform(tmp_path: Path) -> None:
    secure = ["/usr/bin/snmptrap", *KEYS, "-u", "lab", "-e", f"0x{ENGINE}", "127.0.0.1:PORT", "", LINK_DOWN]
    inform = ["/usr/bin/snmpinform", *KEYS, "-u", "lab", "127.0.0.1:PORT", "", "1.3.6.1.6.3.1.1.5.4"]
    _, told = hear({"switch": (device("switch"), V3)}, tmp_path, [secure, inform], lambda _, told: len(told) == 2)
    assert [event.text for _, event in told] == ["linkDown", "linkUp"]


def test_wrong_credentials_are_counted_and_dropped(tmp_path: Path) -> None:
    devices = {"switch": (device("switch"), V3), "pdu": (device("pdu"), Secret(community="rack"))}
    wrong_key = ["/usr/bin/snmptrap", *KEYS[:6], "another-key", *KEYS[7:], "-u", "lab", "-e", f"0x{ENGINE}"]
    no_key = ["/usr/bin/snmptrap", "-v3", "-l", "noAuthNoPriv", "-u", "lab", "-e", f"0x{ENGINE}"]
    ends = ["127.0.0.1:PORT", "", LINK_DOWN]
    commands = [[*wrong_key, *ends], [*no_key, *ends], trap(LINK_DOWN), trap(OUTLET_OFF, community="rack")]
    listener, told = hear(devices, tmp_path, commands, lambda _, told: len(told) >= 1)
    assert [(name, event.data["oid"]) for name, event in told] == [("pdu", OUTLET_OFF)]
    assert listener.counts["received"] == 4


def test_who_is_no_device_is_not_even_decoded(tmp_path: Path) -> None:
    devices = {"pdu": (device("pdu", "192.0.2.7"), Secret())}
    listener, told = hear(
        devices, tmp_path, [trap(LINK_DOWN)] * 3, lambda listener, _: listener.counts["unknown source"] == 3
    )
    assert told == []
    assert listener.counts["received"] == 0


def test_a_flood_is_cut_and_what_was_left_out_is_told(tmp_path: Path) -> None:
    devices = {"pdu": (device("pdu"), Secret())}
    listener, told = hear(
        devices,
        tmp_path,
        [trap(LINK_DOWN)] * 9,
        lambda listener, told: listener.counts["too many"] + len(told) == 9,
        per_minute=3,
    )
    assert 3 <= len(told) < 9
    assert listener.counts["too many"] == 9 - len(told)


def test_a_budget_refills_and_counts() -> None:
    now = [0.0]
    budget = Budget(2, lambda: now[0])
    assert [budget.allows("a") for _ in range(4)] == [True, True, False, False]
    assert budget.allows("b")
    now[0] = 30.0
    assert budget.allows("a")
    assert budget.told("a") == 2
    assert budget.told("a") == 0


def test_garbage_on_the_port_of_traps_ends_nothing(tmp_path: Path) -> None:
    script = (
        "import os, socket, sys; s = socket.socket(2, 2)\n"
        "[s.sendto(os.urandom(n), ('127.0.0.1', int(sys.argv[1]))) for n in range(1, 200)]"
    )
    commands = [["/usr/bin/env", "python3", "-c", script, "PORT"], trap(LINK_DOWN)]
    _, told = hear({"pdu": (device("pdu"), Secret())}, tmp_path, commands, lambda _, told: bool(told), per_minute=6000)
    assert told[0][1].text == "linkDown"
