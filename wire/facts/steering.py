"""How a NIC spreads and steers what it receives: RSS, flow rules, NAPI."""

import msgspec


class RssContext(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One further indirection table that flow rules may send to."""

    id: int
    queues: str  # those in its table, as a list of numbers


class Rss(msgspec.Struct, kw_only=True, omit_defaults=True, tag="rss", tag_field="kind"):
    """How a NIC spreads received flows over its queues (ETHTOOL_GRSSH, GRXFH, GRXRINGS, ETHTOOL_MSG_RSS_GET)."""

    key: str  # of the NIC
    ifname: str
    ifindex: int
    queues: int = 0  # receive queues there are
    table: str = ""  # queue per hash bucket: "0-3 over 128"; "" where the driver has none
    hash_key: str = ""  # hex; "" where the driver does not show one
    hfunc: str = ""  # "toeplitz", "xor", "crc32"
    symmetric: str = ""  # "", "symmetric-xor", "symmetric-or-xor"
    fields: dict[str, str] = {}  # "udp4": "sdfn", as ethtool spells them; flows the driver tells of
    contexts: list[RssContext] | None = None  # but the default one; None where the kernel cannot list them (6.12)


class NtupleRule(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One rule at its place in the NIC's table."""

    location: int
    rule: str  # as wire.flowrule spells it; "other ..." for one that says more than that language


class Ntuple(msgspec.Struct, kw_only=True, omit_defaults=True, tag="ntuple", tag_field="kind"):
    """The flow rules of one NIC (ETHTOOL_GRXCLSRLALL), by location."""

    key: str  # of the NIC
    ifname: str
    ifindex: int
    size: int = 0  # places in the table, 0 where the driver does not say
    rules: list[NtupleRule] = []


class NapiInstance(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One NAPI; None where the kernel does not say."""

    id: int
    irq: int | None = None  # netdev-genl NETDEV_A_NAPI_IRQ
    pid: int | None = None  # of its thread
    cpus: str = ""  # cpulist of that thread, "" where it is that of every kernel thread
    defer_hard_irqs: int | None = None  # since kernel 6.13
    gro_flush_timeout_ns: int | None = None
    irq_suspend_timeout_ns: int | None = None


class Napi(msgspec.Struct, kw_only=True, omit_defaults=True, tag="napi", tag_field="kind"):
    """How a NIC's queues are polled: /sys/class/net/X, and each NAPI that the kernel lists."""

    key: str  # of the NIC
    ifname: str
    ifindex: int
    threaded: bool | None = None  # threaded
    defer_hard_irqs: int | None = None  # napi_defer_hard_irqs: polls
    gro_flush_timeout_ns: int | None = None  # gro_flush_timeout
    instances: list[NapiInstance] = []  # by id
