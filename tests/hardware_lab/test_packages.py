"""Debian's mirror as this machine's apt names it, and apt on a list of the lab's own; nothing is downloaded."""

import subprocess
from pathlib import Path

import pytest

from hardware_lab import packages
from hardware_lab.failure import LabError
from hardware_lab.packages import Apt, Mirror, parse_targets

MAIN, SECURITY = "http://mirror.invalid/debian", "http://security.invalid/debian-security"
TARGETS = f"""\
http://other.invalid/tools/ stable Some Vendor's Tools
{MAIN}/ bookworm-backports Debian Backports
{MAIN}/ bookworm Debian
http://second.invalid/debian/ bookworm-updates Debian
{SECURITY}/ bookworm-security Debian-Security
"""


def test_the_mirror_is_the_first_that_has_debian() -> None:
    assert parse_targets(TARGETS) == Mirror(MAIN, SECURITY)
    assert parse_targets(f"{MAIN} trixie Debian\n") == Mirror(MAIN, "")
    assert parse_targets(f"{MAIN} bookworm-backports Debian\nhttp://b.invalid/ bookworm Debian\n").debian == (
        "http://b.invalid"
    )


@pytest.mark.parametrize("text", ["", "http://other.invalid/tools/ stable Tools\n", f"{MAIN}\n", "Debian\n", "\n \n"])
def test_without_debian_it_says_what_to_do(text: str) -> None:
    with pytest.raises(LabError, match=r"^apt knows no Debian mirror: run apt-get update, or add [^\n]*$"):
        parse_targets(text)


def test_the_guests_suites_and_backports_are_asked_for() -> None:
    assert Mirror(MAIN, SECURITY).lines() == [
        f"deb {MAIN} bookworm main",
        f"deb {MAIN} bookworm-updates main",
        f"deb {MAIN} bookworm-backports main",
        f"deb {SECURITY} bookworm-security main",
    ]
    assert len(Mirror(MAIN, "").lines()) == 3


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apt:
    """apt with a folder of the test's own."""
    monkeypatch.setenv("RACKHAND_LAB_CACHE", str(tmp_path))
    return Apt(Mirror(MAIN, SECURITY))


def test_apt_reads_the_labs_list_and_no_other(apt: Apt, tmp_path: Path) -> None:
    asked = ["apt-get", "update", "--print-uris", *apt.options]
    said = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    suites = [f"{MAIN}/dists/bookworm{more}" for more in ("", "-updates", "-backports")]
    wanted = {*suites, f"{SECURITY}/dists/bookworm-security"}
    uris = {line.split("'")[1] for line in said.splitlines()}
    assert {uri.removesuffix("/InRelease") for uri in uris if uri.endswith("/InRelease")} == wanted
    settings = subprocess.run(["apt-config", *apt.options, "dump"], check=True, capture_output=True, text=True).stdout
    assert f'Dir::State::lists "{tmp_path}/apt/lists";' in settings
    assert (tmp_path / "apt/lists/partial").is_dir()


def test_a_package_without_a_list_is_one_line(apt: Apt) -> None:
    with pytest.raises(LabError, match=r"^the mirror's suite bookworm-backports has no linux-image-amd64$"):
        apt.version("linux-image-amd64", "bookworm-backports")
    assert apt.depends("linux-image-amd64", "6.12") == ""


def test_what_is_not_installed_is_missing() -> None:
    assert packages.missing(["dpkg", "no-such-package-anywhere", "apt"]) == ["no-such-package-anywhere"]
    assert packages.missing([]) == []
