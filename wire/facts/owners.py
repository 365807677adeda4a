"""Facts about who else sets what a policy may set."""

import msgspec


class Claim(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One value that somebody else sets.

    `what` is "<subject> <name>" in the words of the kernel's interface: "rings rx", "features gro", "link mtu",
    "coalesce rx_usecs", "queues rps_cpus", "cpu governor", "memory thp", "sysctl net.core.somaxconn", "file <path>".
    """

    what: str
    value: str = ""  # as it is written there; "" where it is not said
    nic: str = ""  # key of the NIC fact; "" for all of them, or for the host
    source: str = ""  # the file that says so


class Owner(msgspec.Struct, kw_only=True, omit_defaults=True, tag="owner", tag_field="kind"):
    """Somebody else who sets what a policy may set: a daemon, or files applied at boot and when a device comes."""

    key: str  # "tuned", "networkmanager", "networkd", "link", "udev", "sysctl", "ppd", "systemd"
    name: str  # for people: "TuneD"
    running: bool | None = None  # None: no daemon, files alone
    profile: str = ""  # TuneD's active one
    claims: list[Claim] = []
