"""The secrets file: TOML, a table of credentials per name, for its owner alone."""

import os
import stat
import tomllib
from pathlib import Path

import msgspec

from pollers.target import Secret

MAX_BYTES = 1 << 20


class CredentialsError(Exception):
    """The file cannot be used; the message is one line and holds nothing of what is in it."""


def read_secrets(path: Path) -> dict[str, Secret]:
    """Credentials by name; raises CredentialsError, also for a file that others may read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise CredentialsError(f"{path}: not a file")
            if state.st_mode & 0o077 or state.st_uid not in (0, os.geteuid()):
                raise CredentialsError(f"{path}: must be its owner's alone: chmod 600 {path}")
            content = file.read(MAX_BYTES)
    except OSError as error:
        raise CredentialsError(f"{path}: {error.strerror}") from None
    try:
        return msgspec.convert(tomllib.loads(content.decode()), dict[str, Secret])
    except tomllib.TOMLDecodeError as error:
        where = str(error).rpartition("(")[2].rstrip(")")  # the rest may repeat a line of it
        raise CredentialsError(f"{path}: no TOML {where}") from None
    except (UnicodeDecodeError, msgspec.ValidationError) as error:
        where = str(error).rpartition(" - ")[2] if isinstance(error, msgspec.ValidationError) else "not UTF-8"
        raise CredentialsError(f"{path}: no credentials {where}") from None
