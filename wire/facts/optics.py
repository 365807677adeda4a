"""Transceivers and cables with an EEPROM: SFP, QSFP, QSFP-DD, OSFP."""

import msgspec


class OpticsLimits(msgspec.Struct, omit_defaults=True):
    """The module's own thresholds of one monitor; None where it sets none."""

    high_alarm: float | None = None
    low_alarm: float | None = None
    high_warning: float | None = None
    low_warning: float | None = None


class OpticsLane(msgspec.Struct, omit_defaults=True):
    """The state of one lane (CMIS page 11h; LOS and faults of QSFP bytes 3-5, of SFP byte 110)."""

    lane: int  # from 1
    data_path: str = ""  # "activated", "deactivated", "init", ...; "" where the standard has none
    config: str = ""  # what became of the last configuration: "success", "rejected: ...", ...
    application: int | None = None  # active one, from 1; 0 for none
    flags: list[str] = []  # latched: "rx_los", "tx_fault", "rx_power low alarm", ...


class OpticsApplication(msgspec.Struct, omit_defaults=True):
    """What a CMIS module can be used as."""

    host: str
    media: str
    host_lanes: int
    media_lanes: int


class Optics(msgspec.Struct, kw_only=True, omit_defaults=True, tag="optics", tag_field="kind"):
    """One module in the cage of a NIC; `key` is the NIC's. Nothing here changes with a measurement, but for flags."""

    key: str
    ifname: str
    state: str = "ok"  # "ok", "not ready", "low power", "unreadable", "unknown module", ...
    reason: str = ""  # why there is less than everything, one line
    standard: str = ""  # "sff8472", "sff8636", "cmis"
    identifier: int | None = None  # byte 0, SFF-8024 table 4-1
    form: str = ""  # "SFP", "QSFP28", "OSFP", ...
    connector: str = ""  # "LC", "MPO 1x12", "no separable connector", ...
    media: list[str] = []  # "10GBASE-SR", "100GBASE-LR4 or 25GBASE-LR", "passive cable", ...
    vendor: str = ""
    oui: str = ""
    part: str = ""
    revision: str = ""
    serial: str = ""
    date: str = ""  # YYYY-MM-DD where the date code is one
    lot: str = ""
    clei: str = ""
    bitrate_mbd: int | None = None
    wavelength_nm: float | None = None
    wavelength_tolerance_nm: float | None = None
    frequency_ghz: float | None = None  # of a tunable laser
    lengths_m: dict[str, float] = {}  # reach or length: "smf", "om3", "cable", ...
    attenuation_db: dict[str, int] = {}  # of copper, by frequency: "5 GHz", ...
    power_class: int | None = None
    max_power_w: float | None = None
    max_case_celsius: int | None = None
    firmware: str = ""
    hardware: str = ""
    revision_of_standard: str = ""
    applications: list[OpticsApplication] = []
    diagnostics: str = ""  # "internal", "external" calibration, "none", "untrusted"
    monitors: list[str] = []  # metrics that the module is believed to measure, without "optics."
    thresholds: dict[str, OpticsLimits] = {}  # by metric, without "optics."
    module_state: str = ""  # CMIS: "ready", "low power", "fault", ...
    fault_cause: int | None = None  # CMIS byte 41; None for none
    flags: list[str] = []  # latched module flags: "temperature high alarm", "vcc low warning"
    lanes: list[OpticsLane] = []
    checksums: dict[str, bool] = {}  # by name of the sum: whether it is right
    dropped: list[str] = []  # what of the module could not be read or decoded, and why
