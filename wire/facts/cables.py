"""What stands at the other end of a cable, in one shape whoever heard it: a server's port or a switch's."""

import msgspec

MOST_LISTED = 64  # VLANs and management addresses of one neighbour; what else it announces is left out


class Lldp(msgspec.Struct, kw_only=True, omit_defaults=True, tag="lldp", tag_field="kind"):
    """One LLDP neighbour on one port, as this end heard it, or why this port cannot hear one.

    `key` is the port's key, with `#2` and on behind it for further neighbours of that port. What this end announces of
    itself stands in `local_*` as far as it is known; all else is what the neighbour announces: hostile, and cleaned.
    """

    key: str
    port_key: str = ""  # the port's key where `key` is not it: a second neighbour
    port: str = ""  # this end's name for its port: IFLA_IFNAME, IF-MIB ifName; a bond's port, not the bond
    state: str = "heard"  # "blocked": frames end in the NIC's firmware, whoever is there is not known
    reason: str = ""  # of "blocked": which switch of the NIC, and how to turn it
    source: str = ""  # who heard it: "lldpd", "frames" (the agent itself), "lldp-mib"

    local_chassis_subtype: str = ""  # a word of `wire.lldp.CHASSIS`; lldpLocChassisIdSubtype
    local_chassis_id: str = ""  # lldpLocChassisId
    local_system_name: str = ""  # lldpLocSysName, the host's name
    local_port_subtype: str = ""  # a word of `wire.lldp.PORT`; lldpLocPortIdSubtype
    local_port_id: str = ""  # lldpLocPortId
    local_port_description: str = ""  # lldpLocPortDesc
    local_mac: str = ""  # IFLA_ADDRESS, ifPhysAddress
    local_perm_mac: str = ""  # IFLA_PERM_ADDRESS: what the port had before it joined a bond

    chassis_subtype: str = ""  # TLV 1, lldpRemChassisIdSubtype
    chassis_id: str = ""  # a MAC as aa:bb:cc:dd:ee:ff, a network address in its usual spelling
    port_subtype: str = ""  # TLV 2, lldpRemPortIdSubtype
    port_id: str = ""  # text for subtype "local" too: "512", "2150"
    port_description: str = ""  # TLV 4
    system_name: str = ""  # TLV 5
    system_description: str = ""  # TLV 6, in one line
    capabilities: list[str] = []  # TLV 7, enabled ones: words of `wire.lldp.CAPABILITIES`, sorted
    management: list[str] = []  # TLV 8: addresses, in the order announced
    ttl_s: int | None = None  # TLV 3; LLDP-MIB does not say

    pvid: int | None = None  # 802.1 port VLAN
    vlans: dict[int, str] = {}  # 802.1 VLAN names
    lag: bool | None = None  # link aggregation: in one now
    lag_port: int | None = None  # the aggregated port's number
    max_frame_bytes: int | None = None  # 802.3 maximum frame size
    autoneg: bool | None = None  # 802.3 MAC/PHY: enabled
    mau: str = ""  # 802.3 operational MAU type: `1000BaseTFD`, the bare number for one without a name here
    power: str = ""  # 802.3 power via MDI: "PSE" or "PD", and its class: "PSE class 4"
    med: dict[str, str] = {}  # LLDP-MED inventory: hardware, firmware, software, serial, manufacturer, model, asset
    pfc: list[int] | None = None  # 802.1Qaz PFC configuration: lossless priorities; None: it announces none
    pfc_willing: bool | None = None
    ets_prio_tc: list[int] | None = None  # 802.1Qaz ETS configuration: traffic class of each priority
    ets_bandwidth: list[int] | None = None  # per cent of each traffic class
    ets_tsa: list[str] | None = None  # words of `wire.lldp.TSA` by traffic class
