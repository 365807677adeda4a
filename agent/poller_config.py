"""The poller's configuration: TOML with broker, devices and traps, and a file of secrets nobody else may read."""

import ipaddress
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agent.config import Broker, ConfigError, Replay, default_state_dir
from pollers.credentials import CredentialsError, read_secrets
from pollers.target import Secret, Target
from wire.topics import is_id

DEFAULT_FILE = Path("/etc/rackhand/poller.toml")
MOST_NAME = 64
T = TypeVar("T")


class Traps(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where notifications of configured devices are heard."""

    listen: str = ""  # "address:port"; "": nowhere
    per_minute: float = 60.0  # of one device; more are counted only


class PollerConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Everything the poller is told."""

    site: str = "default"
    state_dir: str = ""  # where it remembers which device is which host
    secrets_file: str = ""  # TOML: a table of credentials per name
    labels: dict[str, str] = {}  # of every device
    broker: Broker = msgspec.field(default_factory=Broker)
    replay: Replay = msgspec.field(default_factory=Replay)
    traps: Traps = msgspec.field(default_factory=Traps)
    device: list[Target] = []
    secrets: dict[str, Secret] = {}  # not in this file: what `secrets_file` holds

    @property
    def state(self) -> Path:
        """The state directory: as configured, else by who runs the poller."""
        return Path(self.state_dir) if self.state_dir else default_state_dir() / "poller"


def load(path: Path) -> PollerConfig:
    """The checked configuration with its secrets; raises ConfigError with one line, never with a secret in it."""
    tree = _toml(path)
    if "secrets" in tree:
        raise ConfigError(f"{path}: secrets belong into the file that secrets_file names, which nobody else may read")
    config = _convert(tree, PollerConfig, str(path))
    if config.secrets_file:
        file = path.parent / config.secrets_file
        config.secrets = _secrets(file)
    _check(config, path)
    return config


def _secrets(path: Path) -> dict[str, Secret]:
    try:
        return read_secrets(path)
    except CredentialsError as error:
        raise ConfigError(str(error)) from None


def address_of(listen: str) -> tuple[str, int]:
    """The two parts of "address:port"; raises ConfigError."""
    host, _, port = listen.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
        number = int(port)
    except ValueError:
        raise ConfigError(f"traps.listen {listen!r} is not address:port") from None
    if not 0 < number < 1 << 16:
        raise ConfigError(f"traps.listen {listen!r} has no port number")
    return host.strip("[]"), number


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _convert(tree: dict[str, Any], kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(tree, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from None


def _check(config: PollerConfig, path: Path) -> None:
    if not is_id(config.site):
        raise ConfigError(f"{path}: site {config.site!r} is not a topic id (a-z 0-9 _ -)")
    if config.traps.listen:
        address_of(config.traps.listen)
    if not config.device:
        raise ConfigError(f"{path}: no [[device]] to poll")
    seen: dict[tuple[Any, ...], str] = {}
    for target in config.device:
        where = f"{path}: device {target.name!r}"
        _check_device(target, config, where)
        for what in (("name", target.name), (target.protocol, target.address, target.port)):
            if what in seen:
                raise ConfigError(f"{where}: {' '.join(map(str, what))} is that of device {seen[what]!r} too")
            seen[what] = target.name


def _check_device(target: Target, config: PollerConfig, where: str) -> None:
    if not 0 < len(target.name) <= MOST_NAME or not target.name.isprintable() or not target.address:
        raise ConfigError(f"{where}: it needs a name of 1 to {MOST_NAME} characters, and an address")
    if target.secret and target.secret not in config.secrets:
        raise ConfigError(f"{where}: no secret {target.secret!r} in secrets_file {config.secrets_file!r}")
    if not 0 <= target.port < 1 << 16:
        raise ConfigError(f"{where}: port {target.port} is not a port")
    if not 1 <= target.every_s <= 86400 or not 0.1 <= target.deadline_s <= 3600:
        raise ConfigError(f"{where}: every_s must be 1 to 86400, deadline_s 0.1 to 3600")
