"""Devices of a rack, as SNMP tells of them: PDUs, UPSs, probes, switches, and what is plugged into or built into them.

Keys are made of what the device numbers or names its parts by; samples carry the same keys. Every text is the
device's own: hostile, and cleaned.
"""

import msgspec


class Device(msgspec.Struct, kw_only=True, omit_defaults=True, tag="device", tag_field="kind"):
    """The device itself; there is one."""

    key: str = "device"
    category: str = ""  # of the profile: "pdu", "ups", "ats", "probe", "switch", "bmc", "server", "device"
    profile: str = ""  # the profile that fits best, "" when none knows the device
    vendor: str = ""  # of the profile, else ENTITY-MIB's chassis
    model: str = ""
    serial: str = ""
    hardware: str = ""  # hardware revision
    firmware: str = ""
    name: str = ""  # SNMPv2-MIB sysName
    description: str = ""  # sysDescr
    object_id: str = ""  # sysObjectID
    location: str = ""  # sysLocation
    contact: str = ""  # sysContact
    engine_id: str = ""  # snmpEngineID in hexadecimal, where SNMP v3 is spoken


class Outlet(msgspec.Struct, kw_only=True, omit_defaults=True, tag="outlet", tag_field="kind"):
    """One outlet (receptacle) of a PDU or UPS."""

    key: str  # "outlet:3"; "outlet:1.3" where devices are chained
    name: str = ""
    state: str = ""  # "on", "off", or a word of the MIB
    load: str = ""  # against thresholds: "normal", "low", "near overload", "overload", ...
    bank: str = ""  # what feeds it, as the device names it
    rated_amps: float | None = None


class Bank(msgspec.Struct, kw_only=True, omit_defaults=True, tag="bank", tag_field="kind"):
    """What power passes on its way through a PDU, UPS or transfer switch: an inlet, line, phase, branch or bank."""

    key: str  # "bank:1", "phase:1", "inlet:1", ...
    type: str = ""  # "inlet", "line", "phase", "branch", "bank", "input", "output", "bypass"
    name: str = ""
    state: str = ""  # "on", "off", or a word of the MIB
    load: str = ""  # against thresholds
    breaker: str = ""  # "closed", "open"
    rated_amps: float | None = None


class Ups(msgspec.Struct, kw_only=True, omit_defaults=True, tag="ups", tag_field="kind"):
    """The state of an uninterruptible power supply."""

    key: str = "ups"
    output: str = ""  # what feeds the output: "normal", "battery", "bypass", "booster", "reducer", "none", ...
    battery: str = ""  # "normal", "low", "depleted", "unknown"
    replace_battery: str = ""  # "no", "yes"
    battery_replaced: str = ""  # when, as the device writes it
    last_transfer: str = ""  # why it went to battery last


class Probe(msgspec.Struct, kw_only=True, omit_defaults=True, tag="probe", tag_field="kind"):
    """One environmental sensor: temperature, humidity, door, leak, smoke, dry contact."""

    key: str  # "probe:2"
    type: str = ""  # "temperature", "humidity", "door", "leak", "smoke", "contact", ... where the device says
    name: str = ""
    state: str = ""  # "normal", "open", "closed", "alarm", ...; "" for one that only measures
    location: str = ""


class Port(msgspec.Struct, kw_only=True, omit_defaults=True, tag="port", tag_field="kind"):
    """One interface of a device, by IF-MIB."""

    key: str  # ifName; with "#<ifIndex>" behind it where a name is not unique
    ifindex: int | None = None
    name: str = ""  # ifName, else ifDescr
    alias: str = ""  # ifAlias
    description: str = ""  # ifDescr
    type: int | None = None  # ifType (IANA): 6 ethernetCsmacd, 161 ieee8023adLag
    mac: str = ""  # ifPhysAddress
    mtu: int | None = None  # ifMtu, bytes
    speed_mbps: int | None = None  # ifHighSpeed, else ifSpeed; None when it is 0
    admin: str = ""  # ifAdminStatus
    oper: str = ""  # ifOperStatus


class Entity(msgspec.Struct, kw_only=True, omit_defaults=True, tag="entity", tag_field="kind"):
    """One physical part with a number of its own: chassis, power supply, fan tray, module (ENTITY-MIB)."""

    key: str  # "entity:<entPhysicalIndex>"
    name: str = ""  # entPhysicalName, else entPhysicalDescr
    type: str = ""  # entPhysicalClass
    state: str = ""  # where a MIB of the vendor says: "ok", "off", ...
    model: str = ""  # entPhysicalModelName
    serial: str = ""  # entPhysicalSerialNum
    vendor: str = ""  # entPhysicalMfgName
    hardware: str = ""  # entPhysicalHardwareRev
    firmware: str = ""  # entPhysicalFirmwareRev
    software: str = ""  # entPhysicalSoftwareRev


class EntitySensor(msgspec.Struct, kw_only=True, omit_defaults=True, tag="entity_sensor", tag_field="kind"):
    """One built-in sensor (ENTITY-SENSOR-MIB, or a vendor's of its kind); its samples have the same key."""

    key: str
    name: str = ""
    state: str = ""  # "ok", "unavailable", "nonoperational", or a word of the vendor


class Condition(msgspec.Struct, kw_only=True, omit_defaults=True, tag="condition", tag_field="kind"):
    """A state the device tells of itself that belongs to no part above."""

    key: str
    name: str = ""
    state: str = ""
