"""The poller's configuration: one line for what cannot be used, and never a secret in it."""

import uuid
from pathlib import Path

import pytest

from agent import poller, poller_config
from agent.config import ConfigError
from pollers.target import Polled, Target
from wire.facts import Bmc, Device

DEVICE = '[[device]]\nname = "pdu-a"\nprotocol = "snmp"\naddress = "192.0.2.1"\nsecret = "rack"\n'
SECRETS = '[rack]\ncommunity = "hush-hush"\n'


def write(folder: Path, text: str, secrets: str = SECRETS, mode: int = 0o600) -> Path:
    (folder / "secrets.toml").write_text(secrets)
    (folder / "secrets.toml").chmod(mode)
    path = folder / "poller.toml"
    path.write_text('secrets_file = "secrets.toml"\n' + text)
    return path


def test_a_configuration_with_everything(tmp_path: Path) -> None:
    more = '[traps]\nlisten = "127.0.0.1:1162"\n[broker]\nhost = "mq"\n'
    config = poller_config.load(write(tmp_path, more + DEVICE))
    assert config.device[0].name == "pdu-a"
    assert config.secrets["rack"].community == "hush-hush"
    assert "hush" not in repr(config)
    assert poller_config.address_of("[::1]:162") == ("::1", 162)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no [[device]] to poll"),
        (DEVICE + DEVICE, "name pdu-a is that of device 'pdu-a' too"),
        (DEVICE + DEVICE.replace("pdu-a", "pdu-b"), "snmp 192.0.2.1 0 is that of device 'pdu-a' too"),
        (DEVICE.replace("snmp", "telnet"), "Invalid enum value 'telnet'"),
        (DEVICE + "colour = 1\n", "unknown field `colour`"),
        (DEVICE + "every_s = 0.1\n", "every_s must be 1 to 86400"),
        (DEVICE + "port = 70000\n", "port 70000 is not a port"),
        (DEVICE.replace('"rack"', '"other"'), "no secret 'other'"),
        ('traps = {listen = "everywhere"}\n' + DEVICE, "traps.listen 'everywhere' is not address:port"),
        ("device = ]", "Invalid value"),
        ('site = "No Site"\n' + DEVICE, "site 'No Site' is not a topic id"),
        ("[secrets.rack]\n" + 'community = "hush-hush"\n' + DEVICE, "secrets belong into the file"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        poller_config.load(write(tmp_path, text))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_secrets_that_others_may_read_are_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match=r"must be its owner's alone: chmod 600"):
        poller_config.load(write(tmp_path, DEVICE, mode=mode))


NONSENSE = ["hush-hush", "[rack]\nhush-hush = 1", '[rack]\ncommunity = ["hush-hush"]', "rack = 'hush-hush'"]


@pytest.mark.parametrize("secrets", NONSENSE)
def test_secrets_that_make_no_sense_are_not_repeated(tmp_path: Path, secrets: str) -> None:
    with pytest.raises(ConfigError) as raised:
        poller_config.load(write(tmp_path, DEVICE, secrets))
    assert "hush" not in str(raised.value)


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert poller.main(["--config", str(tmp_path / "none.toml")]) == poller.USAGE
    assert capsys.readouterr().err == f"rackhand-poller: {tmp_path}/none.toml: no such file\n"
    assert poller.main(["--check", "--config", str(write(tmp_path, DEVICE))]) == poller.OK
    assert "1 devices" in capsys.readouterr().out


def test_a_device_is_the_host_its_serial_number_says_else_its_address() -> None:
    target = Target(name="a", protocol="snmp", address="192.0.2.1")
    moved = Target(name="b", protocol="snmp", address="192.0.2.2")
    told = Polled([Device(serial="5A1638E01463")], [], [])
    assert poller.identify(target, told) == poller.identify(moved, told)
    assert poller.identify(target, None).source == "address"
    assert poller.identify(target, None) != poller.identify(moved, None)
    assert poller.identify(target, Polled([Device(serial="0000000")], [], [])).source == "address"
    bmc = Target(name="c", protocol="ipmi", address="192.0.2.3")
    assert poller.identify(bmc, Polled([Bmc(system_serial="S01234567")], [], [])).source == "serial"
    uuid.UUID(poller.identify(target, None).host_id)
