"""Power and heat: energy counters, meters, caps, frequency, idle states, thermal zones, fans, power supplies."""

import msgspec


class PowerLimit(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One limit of a power domain."""

    name: str  # "long_term", "short_term", "peak_power"
    watts: float | None = None  # None: not limited
    max_watts: float | None = None
    window_s: float | None = None


class PowerDomain(msgspec.Struct, kw_only=True, omit_defaults=True, tag="power_domain", tag_field="kind"):
    """One zone of the powercap framework (RAPL): its energy is a counter."""

    key: str  # names from the top: "package-1", "package-1/dram"; with its zone where two are alike
    zone: str  # intel-rapl:0:1
    name: str  # "package-1", "core", "dram", "psys": its number is not the zone's
    enabled: bool | None = None
    wraps_at_j: float | None = None  # max_energy_range_uj
    limits: list[PowerLimit] = []


class PowerMeter(msgspec.Struct, kw_only=True, omit_defaults=True, tag="power_meter", tag_field="kind"):
    """One measured power of hwmon that is no power supply's: the whole server's (ACPI), a card's, a rail's."""

    key: str  # "<device>/<chip>/power1"
    chip: str
    channel: str
    label: str = ""
    interval_s: float | None = None  # what the average is over: power1_average_interval
    cap_watts: float | None = None  # power1_cap
    cap_min_watts: float | None = None
    cap_max_watts: float | None = None
    max_watts: float | None = None  # power1_max
    crit_watts: float | None = None
    alarm: bool = False


class FrequencyPolicy(msgspec.Struct, kw_only=True, omit_defaults=True):
    """CPUs with the same frequency settings."""

    cpus: str  # cpulist
    leaders: str = ""  # cpulist: of each of the kernel's policies its first CPU; writing there is writing to all of it
    governors: list[str] = []  # scaling_available_governors
    preferences: list[str] = []  # energy_performance_available_preferences
    driver: str = ""  # scaling_driver
    governor: str = ""  # scaling_governor
    preference: str = ""  # energy_performance_preference
    min_mhz: int | None = None  # scaling_min_freq
    max_mhz: int | None = None  # scaling_max_freq
    hardware_min_mhz: int | None = None  # cpuinfo_min_freq
    hardware_max_mhz: int | None = None  # cpuinfo_max_freq
    base_mhz: int | None = None  # base_frequency
    bios_limit_mhz: int | None = None  # bios_limit


class IdleState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One C-state, of all CPUs that have it alike."""

    name: str  # "C6"
    description: str = ""  # desc
    latency_us: int | None = None  # to wake up
    residency_us: int | None = None  # stays at least so long to be worth it
    cpus: str = ""  # that have it
    disabled: str = ""  # where it is switched off
    number: int = 0  # stateN of each of these CPUs


class UncoreDomain(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One domain of intel_uncore_frequency: the limits set, and those at boot."""

    name: str  # "package_00_die_00", "uncore00"
    min_khz: int
    max_khz: int
    initial_min_khz: int | None = None
    initial_max_khz: int | None = None


class Cpufreq(msgspec.Struct, kw_only=True, omit_defaults=True, tag="cpufreq", tag_field="kind"):
    """How CPUs choose their speed and sleep (`key` is "cpufreq")."""

    key: str = "cpufreq"
    policies: list[FrequencyPolicy] = []
    turbo: bool | None = None  # intel_pstate/no_turbo turned round, or cpufreq/boost
    turbo_file: str = ""  # which of the two, below /sys/devices/system/cpu
    min_perf_pct: int | None = None  # intel_pstate/min_perf_pct
    biases: dict[str, str] = {}  # cpuN/power/energy_perf_bias -> cpulist
    wakeups: dict[str, str] = {}  # cpuN/power/pm_qos_resume_latency_us ("0": no limit, "n/a": no C-state) -> cpulist
    uncore: list[UncoreDomain] = []  # intel_uncore_frequency
    pstate: str = ""  # intel_pstate/status or amd_pstate/status: "active", "passive", "guided", "off"
    idle_driver: str = ""  # cpuidle/current_driver
    idle_governor: str = ""  # cpuidle/current_governor
    idle_states: list[IdleState] = []


class Trip(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One trip point of a thermal zone."""

    type: str  # "active", "passive", "hot", "critical"
    celsius: float
    hysteresis_c: float | None = None


class ThermalZone(msgspec.Struct, kw_only=True, omit_defaults=True, tag="thermal_zone", tag_field="kind"):
    """One thermal zone."""

    key: str  # its type, "acpitz"; of several alike "acpitz#2", in the order of their numbers
    zone: str  # thermal_zone0
    type: str = ""
    mode: str = ""  # "enabled", "disabled"
    policy: str = ""  # "step_wise", ...
    trips: list[Trip] = []  # without those that are switched off or no temperature
    cooling: list[str] = []  # keys of the cooling devices bound to it
    passed: str = ""  # the worst of the trips "passive", "hot", "critical" that its temperature is past


class CoolingDevice(msgspec.Struct, kw_only=True, omit_defaults=True, tag="cooling_device", tag_field="kind"):
    """What the kernel can cool with: a fan's level, a processor's throttling. Its state is a sample."""

    key: str  # its type, numbered as zones are
    device: str  # cooling_device0
    type: str = ""
    max_state: int | None = None
    count: int = 1  # of type "Processor" there is one per CPU: they are one fact


class Fan(msgspec.Struct, kw_only=True, omit_defaults=True, tag="fan", tag_field="kind"):
    """One fan: a channel of hwmon with the PWM output of the same number, or a cooling device of SMBIOS."""

    key: str  # "<device>/<chip>/fan1"; of SMBIOS its description
    source: str = "hwmon"  # or "smbios"
    chip: str = ""
    channel: str = ""  # fan1, or pwm1 where nothing counts its turns
    label: str = ""  # fan1_label; SMBIOS: description
    present: bool | None = None
    min_rpm: float | None = None
    max_rpm: float | None = None
    target_rpm: float | None = None
    nominal_rpm: float | None = None  # SMBIOS 7.28
    pwm: str = ""  # pwm1_enable: "full", "manual", "automatic"
    output: str = ""  # the file of its PWM output, with its device's path
    enable: str = ""  # pwm1_enable as it is, "" without one
    duty: int | None = None  # pwm1 where it was set by hand, 0 to 255
    curve: str = ""  # the agent's own that it follows: "40:30 60:60 80:100", °C and %
    sensors: str = ""  # files of the temperatures that the curve is over
    alarm: bool = False
    fault: bool = False
    status: str = ""  # SMBIOS: "ok", "non-critical", "critical", "non-recoverable"


class Psu(msgspec.Struct, kw_only=True, omit_defaults=True, tag="psu", tag_field="kind"):
    """One power supply: of SMBIOS, of a PMBus chip, of class power_supply; joined where a serial number says so."""

    key: str  # its location in SMBIOS; else "<device>/<chip>", else its name in /sys/class/power_supply
    sources: list[str] = []  # "smbios", "hwmon", "power_supply"
    chip: str = ""  # "<device>/<chip>" of hwmon
    label: str = ""  # SMBIOS: location or name
    vendor: str = ""
    model: str = ""
    part: str = ""
    serial: str = ""
    revision: str = ""
    max_watts: float | None = None
    present: bool | None = None
    plugged: bool | None = None  # SMBIOS: not unplugged from the wall; power_supply: online
    hot_replaceable: bool | None = None
    status: str = ""  # SMBIOS: "ok", "non-critical", "critical"; as of the last boot
    type: str = ""  # SMBIOS: "switching", ...; power_supply: "Mains", "UPS"
    alarms: list[str] = []  # hwmon attributes that are raised: "in1_lcrit_alarm"
