"""Debian packages for the lab: from the mirror that this machine's own apt sources name, backports suite included.

The machine's sources stay as they are: apt is given a list of the lab's own, in the cache.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hardware_lab.command import answers, run
from hardware_lab.failure import LabError
from hardware_lab.place import cache

SUITE = "bookworm"  # of the guest; its kernel and QEMU are from this suite's backports
HOST = (
    *("openipmi", "ipmitool", "swtpm", "swtpm-tools", "acpica-tools", "busybox-static", "cpio", "kmod", "make", "gcc"),
    *(
        "libelf-dev",
        "e2fsprogs",
        "xz-utils",
        "openssh-client",
        "lldpd",
        "iperf3",
        "iproute2",
        "iputils-ping",
        "mosquitto",
        "seabios",
    ),
)
NEWER = ("qemu-system-x86", "qemu-utils", "mmdebstrap")  # from backports where the machine's own suite is SUITE
POLICY = Path("/usr/sbin/policy-rc.d")


class Mirror(NamedTuple):
    """Where Debian's packages come from."""

    debian: str  # URI of the archive
    security: str  # URI of the security archive, "" without one

    def lines(self) -> list[str]:
        """Its suites for sources.list: the guest's, and the kernel's backports."""
        suites = [(self.debian, name) for name in (SUITE, f"{SUITE}-updates", f"{SUITE}-backports")]
        if self.security:
            suites.append((self.security, f"{SUITE}-security"))
        return [f"deb {uri} {suite} main" for uri, suite in suites]


def parse_targets(text: str) -> Mirror:
    """The mirror in `apt-get indextargets` lines of URI, suite and label; raises LabError when there is none."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        uri, suite, label = (*line.split(maxsplit=2), "", "", "")[:3]
        if label in ("Debian", "Debian-Security") and "backports" not in suite:
            found.setdefault(label, uri.rstrip("/"))
    if "Debian" not in found:
        raise LabError("apt knows no Debian mirror: run apt-get update, or add Debian's suites to the apt sources")
    return Mirror(found["Debian"], found.get("Debian-Security", ""))


def read_mirror() -> Mirror:
    """The mirror of this machine's apt sources; raises LabError."""
    form = ["--format", "$(REPO_URI) $(RELEASE) $(LABEL)", "Created-By: Packages"]
    text = answers(["apt-get", "indextargets", *form])
    if not text.strip():
        run_as_root(["apt-get", "-q", "update"])
        text = answers(["apt-get", "indextargets", *form])
    return parse_targets(text)


class Apt:
    """apt on the lab's own list of suites."""

    def __init__(self, mirror: Mirror) -> None:
        self.folder = cache() / "apt"
        (self.folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (self.folder / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        (self.folder / "sources.list").write_text("\n".join(mirror.lines()) + "\n")
        settings = {
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": self.folder / "lists",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
        }
        self.options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]

    def update(self) -> None:
        """Read the lists of the mirror."""
        run_as_root(["apt-get", "-q", "update", *self.options])

    def install(self, names: Sequence[str], newer: Sequence[str] = ()) -> None:
        """Install packages, `newer` of them from backports, without starting what they bring."""
        with _Quiet():
            command = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "install", "-y"]
            suites = [f"{name}/{SUITE}-backports" for name in newer] if codename() == SUITE else list(newer)
            run_as_root([*command, "--no-install-recommends", *self.options, *names, *suites])

    def version(self, name: str, suite: str) -> str:
        """The version of a package in a suite; raises LabError when the mirror has none."""
        text = answers(["apt-cache", *self.options, "madison", name])
        for line in text.splitlines():
            _, version, where = (part.strip() for part in line.split("|", 2))
            if f" {suite}/main " in f" {where} ":
                return version
        raise LabError(f"the mirror's suite {suite} has no {name}")

    def depends(self, name: str, version: str) -> str:
        """The Depends field of one version of a package."""
        text = answers(["apt-cache", *self.options, "show", f"{name}={version}"])
        return next((line[9:] for line in text.splitlines() if line.startswith("Depends: ")), "")

    def fetch(self, packages: Sequence[str], into: Path) -> list[Path]:
        """Download `name=version` packages without installing them; the files."""
        into.mkdir(parents=True, exist_ok=True)
        run(["apt-get", "-q", *self.options, "-o", "APT::Sandbox::User=root", "download", *packages], cwd=into)
        return sorted(into.glob("*.deb"))


def missing(names: Sequence[str]) -> list[str]:
    """Packages that are not installed here."""
    form = "-f=${Package} ${Status}\n"
    done = subprocess.run(["dpkg-query", "-W", form, *names], capture_output=True, text=True, check=False)
    there = {line.split()[0] for line in done.stdout.splitlines() if line.endswith("ok installed")}
    return [name for name in names if name not in there]


def ensure() -> None:
    """Install what the lab needs on this machine and is not here; raises LabError naming it when that takes root."""
    lacking = missing([*HOST, *NEWER])
    if not lacking:
        return
    if not may_root():
        raise LabError(f"missing packages, installed by root or with sudo: apt-get install {' '.join(lacking)}")
    apt = Apt(read_mirror())
    apt.update()
    apt.install([name for name in lacking if name in HOST], [name for name in lacking if name in NEWER])


def codename() -> str:
    """VERSION_CODENAME of /etc/os-release."""
    text = Path("/etc/os-release").read_text()
    return next((line.split("=", 1)[1].strip('"') for line in text.splitlines() if line.startswith("VERSION_COD")), "")


def may_root() -> bool:
    """True for root, and where sudo asks nothing."""
    if os.geteuid() == 0:
        return True
    if not shutil.which("sudo"):
        return False
    return subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0


def run_as_root(argv: Sequence[str], *, stdin: bytes = b"") -> None:
    """Run a command as root or through sudo; raises LabError with the end of its output."""
    run(argv if os.geteuid() == 0 else ["sudo", "-n", *argv], stdin=stdin)


class _Quiet:
    """While it holds, installing a server does not start it; a policy of the admin's own is left alone."""

    def __enter__(self) -> None:
        self.ours = not POLICY.exists()
        if self.ours:
            run_as_root(["tee", str(POLICY)], stdin=b"#!/bin/sh\nexit 101\n")
            run_as_root(["chmod", "755", str(POLICY)])

    def __exit__(self, *_: object) -> None:
        if self.ours:
            run_as_root(["rm", "-f", str(POLICY)])
