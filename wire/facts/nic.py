"""A network interface and what moves its packets."""

import msgspec


class Nic(msgspec.Struct, kw_only=True, omit_defaults=True, tag="nic", tag_field="kind"):
    """One network interface; `key` is unique on the host.

    Permanent MAC (else MAC) if it has hardware, else its name; a virtual function's PCI address.
    """

    key: str
    ifname: str  # IFLA_IFNAME
    ifindex: int
    type: str = ""  # "physical" (has a device), else IFLA_INFO_KIND: "veth", "bond", "vlan", "bridge", ...; "loopback"
    mac: str = ""  # IFLA_ADDRESS
    perm_mac: str = ""  # IFLA_PERM_ADDRESS
    altnames: list[str] = []  # IFLA_PROP_LIST
    mtu: int = 0  # IFLA_MTU
    up: bool = False  # IFF_UP
    carrier: bool = False  # IFLA_CARRIER
    operstate: str = ""  # IFLA_OPERSTATE, RFC 2863: "up", "down", "lowerlayerdown", ...
    master: str = ""  # ifname of IFLA_MASTER (bond, bridge)
    lower: list[str] = []  # ifnames it stands on: bond slaves, vlan parent, bridge ports
    vlan_id: int | None = None  # IFLA_VLAN_ID
    bond_mode: str = ""  # /sys/class/net/X/bonding/mode
    driver: str = ""  # device/driver
    driver_version: str = ""  # ethtool DRVINFO
    firmware: str = ""  # ethtool DRVINFO fw_version
    bus: str = ""  # "pci", "virtio", "usb", ...
    address: str = ""  # PCI address of the device or its PCI parent
    numa_node: int | None = None  # of that PCI device; None for -1
    local_cpus: str = ""  # .../local_cpulist
    speed_mbps: int | None = None  # ethtool LINKMODES
    max_speed_mbps: int | None = None  # fastest of the supported link modes
    duplex: str = ""  # "full", "half"
    autoneg: bool | None = None
    port: str = ""  # ethtool LINKINFO: "tp", "fibre", "da", ...
    rx_queues: int = 0  # directories queues/rx-*
    tx_queues: int = 0  # directories queues/tx-*
    sriov_total: int | None = None  # device/sriov_totalvfs
    sriov_vfs: int | None = None  # device/sriov_numvfs
    pf: str = ""  # PCI address of the physical function when this is a VF


class Ethtool(msgspec.Struct, kw_only=True, omit_defaults=True, tag="ethtool", tag_field="kind"):
    """What ethtool netlink says of one NIC; an empty dict where the driver has no such operation.

    Names are the kernel's attribute names in lower case without prefix: rings `rx`, `rx_max`, ...; channels
    `combined`, `combined_max`, `rx`, `tx`, `other`, ...; coalesce `rx_usecs`, `use_adaptive_rx`, ...
    """

    key: str  # of the NIC
    ifname: str
    ifindex: int
    rings: dict[str, int] = {}  # ETHTOOL_MSG_RINGS_GET
    channels: dict[str, int] = {}  # ETHTOOL_MSG_CHANNELS_GET
    coalesce: dict[str, int | bool] = {}  # ETHTOOL_MSG_COALESCE_GET
    coalesce_queues: list[dict[str, int]] = []  # ETHTOOL_PERQUEUE, by queue: rx_usecs, rx_max_frames, tx_usecs, ...
    features: dict[str, bool] = {}  # ETHTOOL_MSG_FEATURES_GET active
    features_fixed: list[str] = []  # nochange, or not in hw: cannot be changed
    pause: dict[str, bool] = {}  # ETHTOOL_MSG_PAUSE_GET: autoneg, rx, tx
    fec: list[str] = []  # ETHTOOL_MSG_FEC_GET modes
    fec_active: str = ""
    rss_indirection: list[int] = []  # ETHTOOL_MSG_RSS_GET
    rss_hfunc: str = ""
    supported: list[str] = []  # ETHTOOL_MSG_LINKMODES_GET, mask of ours: "1000baseT/Full", "Autoneg", "RS"
    advertised: list[str] = []  # value of ours
    eee: dict[str, bool] = {}  # ETHTOOL_MSG_EEE_GET: enabled, active


class Queue(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One interrupt vector of a NIC and the queues it serves."""

    irq: int
    rx: list[int] = []  # queue ids
    tx: list[int] = []
    control: bool = False  # mailbox, misc, flow director: serves no queue
    name: str = ""  # action name in /proc/interrupts
    cpus: str = ""  # /proc/irq/N/smp_affinity_list
    effective: str = ""  # /proc/irq/N/effective_affinity_list
    node: int | None = None  # /proc/irq/N/node
    managed: bool = False  # the kernel places it; a write is refused


class Irq(msgspec.Struct, kw_only=True, omit_defaults=True, tag="irq", tag_field="kind"):
    """The interrupts of one NIC."""

    key: str  # of the NIC
    ifname: str
    source: str  # how queues were found: "netdev-genl", "action-name", "unmapped"
    queues: list[Queue] = []  # by irq number; when unmapped the vectors stand here with neither rx nor tx


class Queues(msgspec.Struct, kw_only=True, omit_defaults=True, tag="queues", tag_field="kind"):
    """Packet steering of one NIC: cpulists per queue id ("" is none)."""

    key: str  # of the NIC
    ifname: str
    ifindex: int
    rps_cpus: list[str] = []  # queues/rx-N/rps_cpus, as cpulists
    rps_flow_cnt: list[int] = []  # queues/rx-N/rps_flow_cnt
    xps_cpus: list[str] | None = None  # queues/tx-N/xps_cpus; None where the driver has no XPS (one queue)


class Softnet(msgspec.Struct, kw_only=True, omit_defaults=True, tag="softnet", tag_field="kind"):
    """The host's packet backlog settings (`key` is "softnet"), from /proc/sys/net/core."""

    key: str = "softnet"
    rps_sock_flow_entries: int | None = None
    netdev_budget: int | None = None
    netdev_budget_usecs: int | None = None
    netdev_max_backlog: int | None = None
    busy_read_us: int | None = None  # busy_read
    busy_poll_us: int | None = None  # busy_poll
    irqbalance: bool = False  # its control socket is there (/proc/net/unix)
    banned_irqs: list[int] = []  # what it says it keeps its hands off
