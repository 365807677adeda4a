"""A server's management controller and what it alone knows; in-band and out-of-band it is the same struct."""

import msgspec

# IANA private enterprise numbers of those who build BMCs.
MANUFACTURERS = {
    **{2: "IBM", 11: "HP", 42: "Sun", 343: "Intel", 674: "Dell", 2011: "Huawei", 2623: "ASUSTeK", 5771: "Cisco"},
    **{6569: "Inventec", 6653: "Tyan", 7154: "IPMI forum", 7244: "Quanta", 10368: "Fujitsu", 10876: "Supermicro"},
    **{15000: "Kontron", 15370: "GIGABYTE", 19046: "Lenovo", 20301: "IBM", 20974: "AMI", 33049: "NVIDIA"},
    **{47196: "HPE", 47488: "Supermicro"},
}


class Bmc(msgspec.Struct, kw_only=True, omit_defaults=True, tag="bmc", tag_field="kind"):
    """The BMC (`key` is "bmc"). In-band it says its LAN address; out-of-band its address is the one that is polled."""

    key: str = "bmc"
    address: str = ""  # LAN parameter 3; out-of-band as the configuration has it
    address_source: str = ""  # LAN parameter 4: "static", "dhcp", "bios", "other"; Redfish AddressOrigin, lower case
    addresses6: list[str] = []  # LAN parameters 56 and 59, active ones: "fe80::1/64"; Redfish IPv6Addresses
    netmask: str = ""  # LAN parameter 6; Redfish SubnetMask
    gateway: str = ""  # LAN parameter 12; Redfish Gateway
    vlan_id: int | None = None  # LAN parameter 20; Redfish VLANId
    mac: str = ""  # LAN parameter 5; Redfish MACAddress
    channel: int | None = None  # IPMI channel of the LAN
    version: str = ""  # Get Device ID, "2.14"; Redfish FirmwareVersion
    ipmi_version: str = ""  # Get Device ID, "2.0"
    manufacturer_id: int | None = None  # Get Device ID: IANA enterprise number
    manufacturer: str = ""  # its name in MANUFACTURERS; Redfish Manufacturer
    model: str = ""  # Redfish Manager.Model
    product_id: int | None = None  # Get Device ID
    guid: str = ""  # Get System GUID, 32 hex digits in the order they came; Redfish Manager.UUID without dashes
    system_uuid: str = ""  # SMBIOS UUID of its host: the GUID read so; Redfish ComputerSystem.UUID; in-band DMI's
    hostname: str = ""  # Redfish ComputerSystem.HostName
    system_serial: str = ""  # Redfish ComputerSystem.SerialNumber; FRU 0's product serial number
    power: str = ""  # Get Chassis Status, Redfish PowerState: "on", "off", "" when not said
    restore: str = ""  # after power came back: "always-off", "previous", "always-on"
    faults: list[str] = []  # Get Chassis Status: "power overload", "interlock", "power", "drive", "fan", ...
    intrusion: bool | None = None  # Get Chassis Status; Redfish PhysicalSecurity
    identify: str = ""  # "off", "on", "temporary"; Redfish IndicatorLED, LocationIndicatorActive
    health: str = ""  # Redfish Status.HealthRollup of the system: "ok", "warning", "critical"
    sel_overflow: bool | None = None  # Get SEL Info: events were dropped, the log is full
    sel_added: str = ""  # Get SEL Info, the BMC's clock, ISO 8601; "" when nothing was or its clock was not set
    sick: bool = False  # the poller has had no answer, several times in a row: what stands here is old


class BmcSensor(msgspec.Struct, kw_only=True, omit_defaults=True, tag="bmc_sensor", tag_field="kind"):
    """One sensor of the BMC. Names repeat on real machines, so that the key is its number (IPMI) or path (Redfish)."""

    key: str  # "20.0.1f": owner, LUN, number; "1/Thermal/Temperatures/0"
    name: str = ""  # SDR ID string; Redfish Name
    type: str = ""  # IPMI 2.0 table 42-3: "Temperature", "Fan", "Power Supply", ...
    entity: str = ""  # table 43-13 with the instance: "Power Supply 1"; Redfish PhysicalContext
    unit: str = ""  # "°C", "rpm", "V", "A", "W", "%"; "" for a sensor of states
    lower_non_critical: float | None = None  # Get Sensor Thresholds; Redfish LowerThresholdNonCritical
    lower_critical: float | None = None
    lower_non_recoverable: float | None = None  # Redfish LowerThresholdFatal
    upper_non_critical: float | None = None
    upper_critical: float | None = None
    upper_non_recoverable: float | None = None
    states: list[str] = []  # asserted, of a sensor of states
    status: str = ""  # "ok", "warning", "critical", "absent" (no reading now), "" when not said


class Fru(msgspec.Struct, kw_only=True, omit_defaults=True, tag="fru", tag_field="kind"):
    """A field replaceable unit: areas of its memory (IPMI), or a part that Redfish names."""

    key: str  # "fru0"; Redfish path below /redfish/v1
    name: str = ""  # SDR ID string; Redfish Name
    chassis_type: int | None = None  # SMBIOS 7.4.1
    chassis_part: str = ""
    chassis_serial: str = ""
    board_made: str = ""  # ISO 8601; "" for none and for the epoch
    board_manufacturer: str = ""
    board_product: str = ""
    board_serial: str = ""
    board_part: str = ""
    product_manufacturer: str = ""  # Redfish Manufacturer
    product_name: str = ""  # Redfish Model
    product_part: str = ""  # Redfish PartNumber
    product_version: str = ""
    product_serial: str = ""  # Redfish SerialNumber
    product_asset: str = ""  # Redfish AssetTag
    extra: list[str] = []  # custom fields of all areas
    status: str = ""  # Redfish Status.Health: "ok", "warning", "critical", "absent"


class BmcFirmware(msgspec.Struct, kw_only=True, omit_defaults=True, tag="bmc_firmware", tag_field="kind"):
    """A part's firmware as the BMC lists it (Redfish SoftwareInventory)."""

    key: str  # its Id
    name: str = ""
    version: str = ""
    updateable: bool | None = None
