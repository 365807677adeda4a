"""The agent's configuration: a TOML file, the environment (RACKHAND_*), command line flags; the last one wins."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from wire.report import Severity
from wire.topics import is_id

DEFAULT_FILE = Path("/etc/rackhand/agent.toml")
MIB = 1024 * 1024


class ConfigError(Exception):
    """The configuration cannot be used; the message is one line with file and key."""


class Broker(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where the MQTT broker is, and how it is spoken to."""

    host: str = "127.0.0.1"
    port: int = 1883
    username: str = ""
    password_file: str = ""
    tls_ca: str = ""  # PEM file; with it the connection is TLS
    keepalive_s: int = 30


class Spool(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Bounds of what is kept until the inventory has it."""

    max_bytes: int = 64 * MIB
    max_age_s: int = 7 * 86400


class Replay(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a backlog is sent after an outage."""

    rows_per_s: float = 50.0
    jitter_s: float = 10.0  # a random part of it passes before a backlog starts
    window: int = 64  # rows sent and not yet acknowledged
    resend_s: float = 30.0  # doubles while nothing is acknowledged


class Rule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What becomes of the events that match all of its conditions; globs as in fnmatch."""

    kind: str = "*"
    key: str = "*"  # of the component
    ifname: str = "*"  # of the event's interface, "" for an event without one
    data: dict[str, str] = {}  # glob per name in the event's data
    severity: Severity = Severity.INFO  # at least
    action: Literal["keep", "drop", "hook"]  # keep and drop end the search, hook goes on to the next rule
    hook: str = ""  # the script's name in `hooks_dir`
    rate: float = 0.0  # with keep: events per minute and component that go through one by one


class Events(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is watched, and what becomes of what was seen."""

    watch: tuple[Literal["link", "address", "route", "ethtool", "device", "log"], ...] = (
        "link",
        "address",
        "route",
        "ethtool",
        "device",
        "log",
    )
    hooks_dir: str = "/etc/rackhand/hooks.d"
    hook_timeout_s: float = 30.0
    rule: list[Rule] = []


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Everything the agent is told."""

    site: str = "default"
    state_dir: str = ""
    observe: bool = True  # plan and report, never change anything
    labels: dict[str, str] = {}
    intervals: dict[str, float] = {}  # collector -> seconds, instead of its own interval
    broker: Broker = msgspec.field(default_factory=Broker)
    spool: Spool = msgspec.field(default_factory=Spool)
    replay: Replay = msgspec.field(default_factory=Replay)
    events: Events = msgspec.field(default_factory=Events)

    @property
    def state(self) -> Path:
        """The state directory: as configured, else by who runs the agent."""
        return Path(self.state_dir) if self.state_dir else default_state_dir()


ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "RACKHAND_SITE": ("site",),
    "RACKHAND_STATE_DIR": ("state_dir",),
    "RACKHAND_OBSERVE": ("observe",),
    "RACKHAND_LABELS": ("labels",),
    "RACKHAND_BROKER_HOST": ("broker", "host"),
    "RACKHAND_BROKER_PORT": ("broker", "port"),
    "RACKHAND_BROKER_USERNAME": ("broker", "username"),
    "RACKHAND_BROKER_PASSWORD_FILE": ("broker", "password_file"),
    "RACKHAND_BROKER_TLS_CA": ("broker", "tls_ca"),
    "RACKHAND_SPOOL_MAX_BYTES": ("spool", "max_bytes"),
    "RACKHAND_SPOOL_MAX_AGE_S": ("spool", "max_age_s"),
}


def default_state_dir() -> Path:
    """/var/lib/rackhand for root, else ~/.local/state/rackhand."""
    return Path("/var/lib/rackhand") if os.geteuid() == 0 else Path.home() / ".local/state/rackhand"


def parse_labels(text: str) -> dict[str, str]:
    """`role=edge,rack=r1` as a dict; raises ConfigError for a part without a name."""
    labels: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"label {part!r} is not name=value")
        labels[name.strip()] = value.strip()
    return labels


def load(
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] = {},
) -> Config:
    """The merged configuration; `flags` has the file's shape. Raises ConfigError.

    A file that is named (by flag or RACKHAND_CONFIG) must exist; the default one need not.
    """
    named = file or (Path(environment["RACKHAND_CONFIG"]) if environment.get("RACKHAND_CONFIG") else None)
    path = named or DEFAULT_FILE
    text = _text(path, required=named is not None)
    tree = _parse(text, path)
    _convert(tree, str(path), text)
    for name in ENVIRONMENT.keys() & environment.keys():
        _put(tree, ENVIRONMENT[name], environment[name])
        _convert(tree, name, "")
    for key, value in flags.items():
        tree[key] = {**tree.get(key, {}), **value} if isinstance(value, dict) else value
    return _checked(_convert(tree, "command line", ""))


def password(broker: Broker) -> str:
    """The first line of the password file, "" without one; raises ConfigError when it cannot be read."""
    if not broker.password_file:
        return ""
    return _text(Path(broker.password_file), required=True).split("\n", 1)[0]


def _text(path: Path, *, required: bool) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: no such file") from None
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None


def _put(tree: dict[str, Any], keys: tuple[str, ...], text: str) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    last = keys[-1]
    tree[last] = {**tree.get(last, {}), **parse_labels(text)} if last == "labels" else text


def _convert(tree: dict[str, Any], source: str, text: str) -> Config:
    try:
        return msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), source, text)) from None


def _explain(message: str, source: str, text: str) -> str:
    """`agent.toml:3: unknown key 'colour' in [broker]`, or what is wrong with a known key."""
    where = re.search(r"at `\$\.?([^`]*)`", message)
    section = where[1] if where else ""
    unknown = re.search(r"unknown field `([^`]+)`", message)
    if not unknown:
        name = section.rpartition(".")[2].split("[")[0]
        return f"{source}{_line(text, name)}: {section}: {message.partition(' - at ')[0]}"
    place = f" in [{section}]" if section else ""
    return f"{source}{_line(text, unknown[1])}: unknown key {unknown[1]!r}{place}"


def _line(text: str, key: str) -> str:
    pattern = re.compile(rf"\s*\[?\"?{re.escape(key)}\"?\s*[=\]]")
    numbers = [number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)]
    return f":{numbers[0]}" if len(numbers) == 1 else ""


_POSITIVE = (
    "spool.max_bytes",
    "spool.max_age_s",
    "replay.rows_per_s",
    "replay.window",
    "replay.resend_s",
    "events.hook_timeout_s",
)
_HOOK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _checked(config: Config) -> Config:
    if not is_id(config.site):
        raise ConfigError(f"site {config.site!r} is not a topic id (a-z 0-9 _ -)")
    if not 0 < config.broker.port < 65536:
        raise ConfigError(f"broker.port {config.broker.port} is not a port")
    for name in _POSITIVE:
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        if value <= 0:
            raise ConfigError(f"{name} must be above 0, not {value}")
    for collector, every_s in config.intervals.items():
        if every_s < 1:
            raise ConfigError(f"intervals.{collector} must be at least 1 second, not {every_s}")
    _check_rules(config.events)
    return config


def _check_rules(events: Events) -> None:
    for number, rule in enumerate(events.rule, 1):
        if rule.action == "hook" and not _HOOK.fullmatch(rule.hook):
            raise ConfigError(f"events.rule {number}: hook {rule.hook!r} is not the name of a script in hooks_dir")
        if rule.action != "hook" and rule.hook:
            raise ConfigError(f'events.rule {number}: a hook is for action = "hook"')
        if rule.rate < 0 or (rule.rate and rule.action != "keep"):
            raise ConfigError(f'events.rule {number}: rate is for action = "keep", and above 0')
