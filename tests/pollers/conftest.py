"""Recorded walks of real SNMP devices, served on loopback."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hardware_lab.snmp import Row
from pollers.snmp import Examined, examine
from pollers.target import Secret, Target
from tests.conftest import ROOT
from tests.pollers import walks


class Corpus(NamedTuple):
    """Walks by name, what LibreNMS makes of each, and the port where they are answered."""

    folder: Path
    port: int
    polled: dict[str, Examined]  # once per walk

    def poll(self, name: str) -> Examined:
        """What polling a walk gives."""
        if name not in self.polled:
            target = Target(name=name, protocol="snmp", address=walks.LOOPBACK, port=self.port, deadline_s=120)
            self.polled[name] = asyncio.run(examine(target, Secret(community=name)))
        return self.polled[name]

    def expected(self, name: str) -> dict[str, Any]:
        path = self.folder / f"{name}.expected.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def rows(self, name: str) -> list[Row]:
        return walks.read(self.folder / f"{name}.snmprec")


@pytest.fixture(scope="session")
def corpus(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """Every `*.snmprec` of the folder `snmp`, its name being the community."""
    folder = data / "snmp"
    recorded = {path.stem: walks.read(path) for path in sorted(folder.glob("*.snmprec"))}
    assert recorded, f"no walks in {folder}"
    with walks.served(tmp_path_factory.mktemp("snmpsim"), recorded) as port:
        yield Corpus(folder, port, {})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per recorded walk, so that any folder of this layout brings its own."""
    if "walk" in metafunc.fixturenames:
        folder = Path(os.environ.get("RACKHAND_DATA", ROOT.parent / "shared" / "data")) / "snmp"
        names = sorted(path.stem for path in folder.glob("*.snmprec"))
        absent = pytest.mark.skip(reason="the captures of real hardware are not here (RACKHAND_DATA, ../shared/data)")
        metafunc.parametrize("walk", names or [pytest.param("none", marks=absent)])
