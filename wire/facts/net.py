"""What stands on network interfaces, and what they share out: bonds, bridges, VLANs, virtual functions, RDMA ports."""

import msgspec


class LacpPort(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One end of a LACP session (IEEE 802.1AX), as the last PDU had it."""

    system: str = ""  # MAC; "" for none
    system_priority: int | None = None
    key: int | None = None
    port: int | None = None
    port_priority: int | None = None
    state: list[str] | None = None  # bits that are set: "activity", "timeout", "aggregation", "synchronization", ...


class BondPort(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One port of a bond or team."""

    ifname: str
    key: str  # of its NIC
    state: str = ""  # IFLA_BOND_SLAVE_STATE: "active", "backup"
    link: str = ""  # IFLA_BOND_SLAVE_MII_STATUS: "up", "down", "going down", "going back"; a team's: "up", "down"
    queue_id: int | None = None  # IFLA_BOND_SLAVE_QUEUE_ID
    aggregator: int | None = None  # IFLA_BOND_SLAVE_AD_AGGREGATOR_ID
    actor: LacpPort | None = None  # IFLA_BOND_SLAVE_AD_ACTOR_OPER_PORT_STATE; the rest from /proc/net/bonding (root)
    partner: LacpPort | None = None
    actor_churn: str = ""  # /proc/net/bonding: "none", "monitoring", "churned"
    partner_churn: str = ""


class Bond(msgspec.Struct, kw_only=True, omit_defaults=True, tag="bond", tag_field="kind"):
    """A bond or a team: how it shares its ports out, and how they are."""

    key: str  # of its NIC
    ifname: str
    driver: str = "bond"  # IFLA_INFO_KIND: "bond", "team"
    mode: str = ""  # IFLA_BOND_MODE, as in sysfs: "802.3ad"; a team's mode: "loadbalance"
    xmit_hash: str = ""  # IFLA_BOND_XMIT_HASH_POLICY: "layer3+4"
    miimon_ms: int | None = None  # IFLA_BOND_MIIMON; 0: the link is not watched by it
    arp_interval_ms: int | None = None  # IFLA_BOND_ARP_INTERVAL
    up_delay_ms: int | None = None
    down_delay_ms: int | None = None
    min_links: int | None = None
    active: str = ""  # ifname of IFLA_BOND_ACTIVE_SLAVE
    primary: str = ""  # ifname of IFLA_BOND_PRIMARY
    lacp_rate: str = ""  # IFLA_BOND_AD_LACP_RATE: "slow" (30 s), "fast" (1 s)
    ad_select: str = ""  # IFLA_BOND_AD_SELECT: "stable", "bandwidth", "count"
    aggregator: int | None = None  # IFLA_BOND_AD_INFO, the active one
    aggregator_ports: int | None = None
    actor_key: int | None = None
    partner_key: int | None = None
    partner_mac: str = ""  # "" when nobody answers
    ports: list[BondPort] = []


class BridgePort(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One port of a bridge."""

    ifname: str
    key: str  # of its NIC
    state: str = ""  # IFLA_BRPORT_STATE: "forwarding", "blocking", ...
    cost: int | None = None  # IFLA_BRPORT_COST
    isolated: bool = False  # IFLA_BRPORT_ISOLATED


class Bridge(msgspec.Struct, kw_only=True, omit_defaults=True, tag="bridge", tag_field="kind"):
    """A bridge of the kernel."""

    key: str  # of its NIC
    ifname: str
    stp: str = ""  # IFLA_BR_STP_STATE: "off", "kernel", "user"
    vlan_filtering: bool = False  # IFLA_BR_VLAN_FILTERING
    vlan_protocol: str = ""  # IFLA_BR_VLAN_PROTOCOL: "802.1Q", "802.1ad"
    bridge_id: str = ""  # IFLA_BR_BRIDGE_ID: "8000.52:54:00:12:34:56"
    root_id: str = ""  # IFLA_BR_ROOT_ID; the same when this bridge is the root
    root_port: str = ""  # ifname towards the root
    root_cost: int | None = None
    ageing_s: float | None = None  # IFLA_BR_AGEING_TIME
    ports: list[BridgePort] = []


class Vlan(msgspec.Struct, kw_only=True, omit_defaults=True, tag="vlan", tag_field="kind"):
    """A VLAN interface."""

    key: str  # of its NIC
    ifname: str
    vlan_id: int  # IFLA_VLAN_ID
    protocol: str = ""  # IFLA_VLAN_PROTOCOL: "802.1Q", "802.1ad"
    parent: str = ""  # ifname of IFLA_LINK; "" when that is in another namespace
    parent_key: str = ""  # of its NIC
    reorder_hdr: bool = False  # IFLA_VLAN_FLAGS
    gvrp: bool = False
    mvrp: bool = False
    loose_binding: bool = False


class VirtFunction(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One virtual function, as its physical function's driver keeps it (IFLA_VFINFO_LIST) and as PCI has it."""

    index: int
    address: str = ""  # PCI, device/virtfnN
    ifname: str = ""  # of its network interface in this namespace
    key: str = ""  # of its NIC
    mac: str = ""  # "" for none set
    vlan_id: int = 0  # 0: untagged
    vlan_qos: int = 0
    vlan_protocol: str = ""
    min_tx_mbps: int = 0  # 0: no limit
    max_tx_mbps: int = 0
    spoofchk: bool | None = None  # None where the driver has none
    trust: bool | None = None
    link_state: str = ""  # "auto", "enable", "disable"
    driver: str = ""
    owner: str = ""  # "host", "vfio" (user space or a guest), "guest" (Xen), "reserved" (pci-stub), "" for no driver
    driver_override: str = ""  # which driver alone may take it
    iommu_group: int | None = None
    used: str = ""  # why it must not be taken away: an interface that is up, VFIO held open, a libvirt guest, ...


class Representor(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The interface that stands in the host for a port of the NIC's switch."""

    ifname: str
    key: str  # of its NIC
    port: str = ""  # phys_port_name: "p0", "pf0vf3", "pf0sf88"


class Virt(msgspec.Struct, kw_only=True, omit_defaults=True, tag="virt", tag_field="kind"):
    """A physical function that can share itself out (SR-IOV), or the uplink of a NIC's switch."""

    key: str  # of its NIC
    ifname: str
    address: str = ""  # PCI
    vfs_total: int = 0  # device/sriov_totalvfs
    vfs: list[VirtFunction] = []
    autoprobe: bool | None = None  # device/sriov_drivers_autoprobe: do the host's drivers take new functions
    eswitch_mode: str = ""  # DEVLINK_CMD_ESWITCH_GET: "legacy", "switchdev"
    switch_id: str = ""  # phys_switch_id
    port: str = ""  # phys_port_name
    representors: list[Representor] = []
    device: str = ""  # on another bus than PCI, as devlink names it: "netdevsim/netdevsim7"
    vfs_set: int | None = None  # device/sriov_numvfs; None where the driver shares nothing out
    vfs_owned: int = 0  # how many of them the agent made: its ledger, which ends with the boot


class Passthrough(msgspec.Struct, kw_only=True, omit_defaults=True, tag="passthrough", tag_field="kind"):
    """A device that the host does not use itself: bound to VFIO, promised to another driver, or a mediated one."""

    key: str  # PCI address; UUID of a mediated device
    type: str  # "pci", "mdev"
    driver: str = ""
    driver_override: str = ""  # which driver alone may take it
    owner: str = ""  # as in VirtFunction
    iommu_group: int | None = None
    group: list[str] = []  # the other devices of the group: they go with it
    parent: str = ""  # PCI address of a mediated device's parent
    mdev_type: str = ""
    used: str = ""  # as in VirtFunction


class Gid(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One entry of an RDMA port's table of global identifiers."""

    index: int
    gid: str  # ports/N/gids/I, as an IPv6 address
    type: str = ""  # gid_attrs/types/I: "IB/RoCE v1", "RoCE v2"
    ifname: str = ""  # gid_attrs/ndevs/I


class Rdma(msgspec.Struct, kw_only=True, omit_defaults=True, tag="rdma", tag_field="kind"):
    """One port of an RDMA device: InfiniBand, RoCE, iWARP."""

    key: str  # "<PCI address, or the device's name where it has none>/<port>"
    device: str  # mlx5_0
    port: int
    link_layer: str = ""  # "InfiniBand", "Ethernet"
    node_type: str = ""  # "CA", "RNIC", "switch"
    state: str = ""  # "active", "down", "init", "armed"
    phys_state: str = ""  # "linkup", "polling", "disabled", ...
    rate_gbps: float | None = None
    width: str = ""  # what the rate is made of: "4X EDR"
    lid: int | None = None  # None for none assigned
    sm_lid: int | None = None
    gids: list[Gid] = []
    pkeys: list[str] = []  # "0xffff", those that are set
    ifnames: list[str] = []  # of its network interfaces
    nics: list[str] = []  # their keys
    driver: str = ""
    address: str = ""  # PCI
    firmware: str = ""  # fw_ver
    hca_type: str = ""
    board_id: str = ""  # the vendor's name of the board (PSID)
    node_guid: str = ""
    sys_image_guid: str = ""
    node_desc: str = ""
