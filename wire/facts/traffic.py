"""How a host shapes what it sends and queues: disciplines, limits per queue, kernel settings, data centre bridging."""

import msgspec


class Qdisc(msgspec.Struct, kw_only=True, omit_defaults=True, tag="qdisc", tag_field="kind"):
    """The queueing of one NIC. A discipline is text: kind, handle, options in tc's units: "fq 8001: limit=10000".

    Handle "0:" is the kernel's own default.
    """

    key: str  # of the NIC
    ifname: str
    ifindex: int
    root: str = ""  # RTM_GETQDISC
    queues: list[str] = []  # below the classes of mq and mqprio, by queue; "" for none
    foreign: list[str] = []  # what else stands there: "htb 1:", "filter bpf x at clsact egress"
    txqueuelen: int | None = None  # tx_queue_len, packets
    bql_max: list[int] = []  # queues/tx-N/byte_queue_limits/limit_max, bytes; empty where the driver has none
    bql_min: list[int] = []  # limit_min
    tx_maxrate: list[int] = []  # queues/tx-N/tx_maxrate, Mbit/s; 0: no limit


class SysctlOwner(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Who sets a key at boot: the file that counts, and to what."""

    path: str
    value: str


class Sysctl(msgspec.Struct, kw_only=True, omit_defaults=True, tag="sysctl", tag_field="kind"):
    """The host's network settings under /proc/sys (`key` is "sysctl"), those that can be tuned."""

    key: str = "sysctl"
    values: dict[str, str] = {}  # "net.core.somaxconn" -> "4096"; numbers of a list with one space between
    owners: dict[str, SysctlOwner] = {}  # keys that a file of sysctl.d sets


class Dcb(msgspec.Struct, kw_only=True, omit_defaults=True, tag="dcb", tag_field="kind"):
    """Data centre bridging of one NIC (IEEE 802.1Qaz and 802.1Qbb, dcbnl); lists go by traffic class or priority."""

    key: str  # of the NIC
    ifname: str
    ifindex: int
    dcbx: list[str] = []  # DCB_ATTR_DCBX: "host", "lld", "cee", "ieee", "static"; "lld": its firmware negotiates
    pfc_capable: int | None = None  # priorities that can be lossless at once
    pfc: list[int] | None = None  # lossless priorities
    classes: int | None = None  # ets_cap
    bandwidth: list[int] = []  # per cent of each traffic class
    tsa: list[str] = []  # words of `wire.lldp.TSA` by traffic class
    prio_tc: list[int] = []  # traffic class of each priority
    trust: list[str] = []  # what sorts frames received: "pcp", "dscp", ...; empty where the driver does not say
    dscp: dict[int, int] = {}  # DSCP -> priority
