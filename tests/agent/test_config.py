"""Where each setting comes from, and one clear line for what cannot be used."""

from pathlib import Path
from typing import Any

import pytest

from agent.config import Config, ConfigError, load, parse_labels, password

FILE = """
site = "ber1"
observe = false

[broker]
host = "mqtt.example"
port = 8883

[labels]
role = "edge"

[intervals]
hwmon = 30
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def test_defaults_observe_and_need_no_file() -> None:
    config = load(environment={})
    assert (config.observe, config.broker.host, config.broker.port) == (True, "127.0.0.1", 1883)
    assert config.state.is_absolute()


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    environment = {"RACKHAND_BROKER_HOST": "from-env", "RACKHAND_BROKER_PORT": "1884", "RACKHAND_LABELS": "rack=r1"}
    flags = {"broker": {"host": "from-flag"}, "labels": {"role": "core"}}
    config = load(write(tmp_path, FILE), environment, flags)
    assert (config.broker.host, config.broker.port, config.site) == ("from-flag", 1884, "ber1")
    assert config.labels == {"role": "core", "rack": "r1"}
    assert config.intervals == {"hwmon": 30}
    assert config.observe is False


def test_environment_reads_booleans_and_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'site = "x"')
    config = load(
        environment={"RACKHAND_CONFIG": str(path), "RACKHAND_OBSERVE": "false", "RACKHAND_DATA": "/elsewhere"}
    )
    assert (config.site, config.observe) == ("x", False)


BAD: dict[str, tuple[str, str]] = {
    "unknown key": ('site = "x"\ncolour = "red"', r"agent\.toml:2: unknown key 'colour'$"),
    "unknown key in a table": ('[broker]\nhost = "x"\nprot = 1', r"agent\.toml:3: unknown key 'prot' in \[broker\]$"),
    "wrong type": ('[broker]\nport = "many"', r"agent\.toml:2: broker\.port: "),
    "not TOML": ("site =", r"agent\.toml: Invalid value"),
    "site is no id": ('site = "Rack 7"', "site 'Rack 7' is not a topic id"),
    "no port": ("[broker]\nport = 70000", "70000 is not a port"),
    "zero": ("[spool]\nmax_bytes = 0", "spool.max_bytes must be above 0"),
    "too often": ("[intervals]\nnic = 0.1", "intervals.nic must be at least 1 second"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_one_line(tmp_path: Path, case: str) -> None:
    text, expected = BAD[case]
    with pytest.raises(ConfigError, match=expected) as error:
        load(write(tmp_path, text), {})
    assert "\n" not in str(error.value)


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none.toml", {})


def test_bad_environment_is_named() -> None:
    with pytest.raises(ConfigError, match="RACKHAND_BROKER_PORT"):
        load(environment={"RACKHAND_BROKER_PORT": "many"})


def test_labels() -> None:
    assert parse_labels(" role=edge, rack=r1 ,") == {"role": "edge", "rack": "r1"}
    with pytest.raises(ConfigError, match="'nonsense' is not name=value"):
        parse_labels("nonsense")


def test_password_is_the_first_line(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    flags: dict[str, Any] = {"broker": {"password_file": str(secret)}}
    assert password(load(environment={}, flags=flags).broker) == "hunter2"
    assert password(Config().broker) == ""
