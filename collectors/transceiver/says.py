"""What the bytes of a module say by its standard, before anybody asks whether it can be true.

Names and units are those of the standards' fields: dBm and what is plausible come later, in `readings`.
"""

import msgspec

Number = int | float


class Levels(msgspec.Struct, frozen=True):
    """The four thresholds of one monitor; None where the calibration constants are no numbers."""

    high_alarm: float | None
    low_alarm: float | None
    high_warn: float | None
    low_warn: float | None


class Flags(msgspec.Struct, frozen=True):
    """The four flags of one monitor, latched since the last read."""

    high_alarm: bool
    low_alarm: bool
    high_warn: bool
    low_warn: bool


class Id(msgspec.Struct):
    """Who made it: texts without padding, control characters replaced."""

    identifier: int
    vendor: str = ""
    oui: str = ""
    part: str = ""
    rev: str = ""
    serial: str = ""
    date: str = ""  # YYMMDD and two characters of the maker's
    ext_identifier: int | None = None
    connector: int | None = None
    encoding: int | None = None
    br_mbd: int | None = None
    ext_spec: int | None = None  # SFF-8024 table 4-4
    clei: str | None = None


class Lane(msgspec.Struct, omit_defaults=True):
    """The monitors of one lane."""

    rx_mw: float | None = None
    tx_bias_ma: float | None = None
    tx_mw: float | None = None


class Aux(msgspec.Struct, frozen=True):
    """A monitor whose meaning the module chooses."""

    kind: str  # "laser_temp_c", "tec_pct", "vcc2_v", "custom"
    value: float


class Dom(msgspec.Struct, omit_defaults=True):
    """Digital optical monitoring: what the module measures."""

    temp_c: float | None = None
    vcc_v: float | None = None
    lanes: list[Lane] = []
    aux1: Aux | None = None
    aux2: Aux | None = None
    aux3: Aux | None = None
    tec_ma: float | None = None
    laser_temp_or_wl_raw: int | None = None


class App(msgspec.Struct, frozen=True):
    """One application a CMIS module offers: SFF-8024 host and media interface, lanes, first lanes as a bit mask."""

    host_id: int
    media_id: int
    host_lanes: int
    media_lanes: int
    host_assign: int


class Laser(msgspec.Struct, frozen=True):
    """A tunable laser of page 12h (CMIS)."""

    grid: int
    channel: int
    freq_ghz: float
    target_dbm: float
    tuning: bool
    unlocked: bool


class Tuning(msgspec.Struct, frozen=True):
    """A tunable laser of page 02h (SFF-8690)."""

    first_thz: float
    last_thz: float
    grid_ghz: float
    channel: int
    wavelength_nm: float
    freq_error_ghz: float
    wavelength_error_nm: float
    tec_fault: bool
    unlocked: bool
    tuning: bool
    latched: int


class Vdm(msgspec.Struct, omit_defaults=True):
    """One observable of the versatile diagnostics; without name and value where the type is not known."""

    instance: int
    type: int
    lane: int
    thr_set: int
    name: str | None = None
    value: Number | None = None
    raw: int | None = None
    thr: Levels | None = None
    flags: Flags | None = None


class Module(msgspec.Struct, omit_defaults=True):
    """A whole module; None and empty is what was not read or what its standard does not have."""

    family: str
    id: Id | None = None
    doubt: str = ""  # why its monitors are not believed, whatever they say
    dropped: list[str] = []  # what could not be decoded, and why
    rev: int | str | None = None
    flat: bool | None = None
    data_not_ready: bool | None = None
    codes: str = ""  # compliance codes in hex: bytes 3-10 (SFP), 131-138 (QSFP)
    options: str = ""  # option bytes in hex: 64-65 (SFP), 193-195 (QSFP)
    power_class: int | None = None
    max_power_w: float | None = None
    len: dict[str, Number | None] = {}  # by fibre, in the unit of the name; byteN: the register that is ambiguous
    cable_m: float | None = None
    attn_db: dict[str, int] | list[int] | None = None  # copper: by frequency, or CMIS bytes 204-208
    wavelength_nm: float | None = None
    wavelength_tol_nm: float | None = None
    tx_tech: int | None = None  # SFF-8636 byte 147, upper half
    max_case_c: int | None = None
    monitors: int | None = None  # SFF-8636 byte 220
    ddm: dict[str, bool] = {}
    checksum: dict[str, bool] = {}
    cal: dict[str, list[float | None]] = {}
    dom: Dom | None = None
    thr: dict[str, Levels] = {}
    flags: dict[str, Flags | list[Flags]] = {}
    flags_implemented: bool | None = None
    status: dict[str, bool] = {}
    lane_flags: list[dict[str, bool]] = []
    tunable: Tuning | None = None
    # CMIS
    module_state: int | None = None
    interrupt_deasserted: bool | None = None
    fw_active: str | None = None
    fw_inactive: str | None = None
    hw_rev: str | None = None
    fault_cause: int | None = None
    media_type: int | None = None
    low_pwr_req_sw: bool | None = None
    low_pwr_allow_hw: bool | None = None
    media_lane_unsupported: int | None = None
    tech: int | None = None
    apps: list[App] = []
    more_apps: list[App] = []  # 9 to 15, of page 01h
    media_assign: list[int] = []
    pages_adv: dict[str, Number] = {}
    mon_adv: dict[str, bool] = {}
    aux_kinds: list[str] = []
    bias_mult: int | None = None
    rx_power_avg: bool | None = None
    dp_state: list[int] = []
    rx_output_valid: list[bool] = []
    tx_output_valid: list[bool] = []
    config_status: list[int] = []
    active_app: list[int] = []
    laser: list[Laser] = []
    vdm: list[Vdm] = []
    pm: dict[str, dict[str, float]] = {}
