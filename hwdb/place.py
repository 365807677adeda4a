"""Where `rackhand up` keeps its things, and so where the other verbs look when nobody says otherwise."""

import os
import re
from pathlib import Path


def default_state() -> Path:
    """/var/lib/rackhand/inventory for root, else ~/.local/state/rackhand/inventory."""
    base = Path("/var/lib") if os.geteuid() == 0 else Path.home() / ".local/state"
    return base / "rackhand" / "inventory"


def default_url(state: Path | None = None) -> str:
    """The SQLite database in a state directory, the default one unless named."""
    return f"sqlite:///{(state or default_state()).absolute() / 'rackhand.db'}"


def shown(url: str) -> str:
    """A database URL for people: without its password."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)
