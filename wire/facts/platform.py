"""Facts about what is under the host: PCIe, memory controllers, machine checks, trust, watchdogs, clocks, firmware."""

import msgspec


class Pcie(msgspec.Struct, kw_only=True, omit_defaults=True, tag="pcie", tag_field="kind"):
    """One PCI Express function, bridges included, virtual functions not: what its configuration space says."""

    key: str  # address, as of `Pci`
    type: str = ""  # PCIe 6.0, 7.5.3.2: "endpoint", "root port", "upstream port", "downstream port", ...
    parent: str = ""  # address of the port above, "" for what is on a root bus
    slot: str = ""  # /sys/bus/pci/slots/X: the name that firmware gives the slot
    link_speed_gts: float | None = None  # current_link_speed, of a port the link below it
    link_width: int | None = None  # current_link_width
    max_payload_bytes: int | None = None  # Device Control, Max_Payload_Size: in use
    max_payload_capable_bytes: int | None = None  # Device Capabilities
    max_read_request_bytes: int | None = None  # Device Control, Max_Read_Request_Size
    relaxed_ordering: bool | None = None  # Device Control
    extended_tag: bool | None = None
    no_snoop: bool | None = None
    aspm: list[str] = []  # Link Control: enabled of "L0s", "L1"
    acs: list[str] | None = None  # Access Control Services that are enabled; None where there is no such capability
    aer: bool | None = None  # it has the Advanced Error Reporting capability
    aer_masked: list[str] = []  # corrected errors that it does not report


class EdacModule(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A memory module, rank or channel for which a controller counts errors."""

    name: str  # its folder: "dimm0", "rank3", "csrow0/ch1"
    dimm: str  # key of the samples: that of the `Dimm` whose slot the label names, else the label or place
    label: str = ""  # dimm_label
    location: str = ""  # dimm_location: "channel 0 slot 1"
    size_mib: int | None = None  # size
    memory: str = ""  # dimm_mem_type: "Registered-DDR4"
    edac: str = ""  # dimm_edac_mode: "SECDED", "S4ECD4ED"


class Edac(msgspec.Struct, kw_only=True, omit_defaults=True, tag="edac", tag_field="kind"):
    """One memory controller that counts errors (/sys/devices/system/edac/mc)."""

    key: str  # mc0
    name: str = ""  # mc_name: "Skylake Socket#0 IMC#0"
    size_mib: int | None = None  # size_mb
    scrub_bytes_per_s: int | None = None  # sdram_scrub_rate; None where the driver cannot tell
    modules: list[EdacModule] = []


class Mce(msgspec.Struct, kw_only=True, omit_defaults=True, tag="mce", tag_field="kind"):
    """The machine check architecture of the CPUs (`key` is "mce")."""

    key: str = "mce"
    banks: int | None = None  # error banks of the first CPU: /sys/devices/system/machinecheck/machinecheckN/bankN
    disabled_banks: list[int] = []  # banks with a control register of 0 on the first CPU
    poll_s: int | None = None  # check_interval; 0: corrected errors are not polled for
    ignore_corrected: bool | None = None  # ignore_ce
    hide_corrected: bool | None = None  # dont_log_ce
    cmci_disabled: bool | None = None  # no interrupt for corrected errors


class Trust(msgspec.Struct, kw_only=True, omit_defaults=True, tag="trust", tag_field="kind"):
    """What the host's software may rely on, and how it booted (`key` is "trust")."""

    key: str = "trust"
    tpm: str = ""  # "2.0", "1.2": /sys/class/tpm/tpm0/tpm_version_major; "" without one
    tpm_device: str = ""  # its driver's description or name
    pcr_banks: list[str] = []  # "sha1", "sha256", ...: folders pcr-X (kernel 5.12)
    pcrs: dict[str, str] = {}  # "sha256:7" -> lower-case hex, of the strongest bank
    event_log: bool | None = None  # securityfs tpm0/binary_bios_measurements has something in it
    secure_boot: bool | None = None  # EFI variable SecureBoot; None where the host did not boot by UEFI
    setup_mode: bool | None = None  # EFI variable SetupMode: keys may be changed by anybody
    lockdown: str = ""  # /sys/kernel/security/lockdown: "none", "integrity", "confidentiality"
    module_signatures: bool | None = None  # /sys/module/module/parameters/sig_enforce
    lsm: list[str] = []  # /sys/kernel/security/lsm
    iommu: list[str] = []  # /sys/class/iommu: "dmar0", "ivhd0", ...; empty: DMA is not fenced in
    iommu_domains: dict[str, int] = {}  # type -> groups: "DMA-FQ", "identity", ...
    taint: list[str] = []  # /proc/sys/kernel/tainted, in words of the kernel's table
    microcode: list[str] = []  # versions in use, "0x2b000603"; more than one: CPUs differ
    vulnerabilities: dict[str, str] = {}  # /sys/devices/system/cpu/vulnerabilities, but "Not affected"
    intrusion: list[str] = []  # chassis switches that were opened since they were last cleared: "nct6779/intrusion0"


class Watchdog(msgspec.Struct, kw_only=True, omit_defaults=True, tag="watchdog", tag_field="kind"):
    """One watchdog timer (/sys/class/watchdog)."""

    key: str  # its device, which stays over reboots; its identity where there is none
    name: str = ""  # watchdogN
    identity: str = ""
    running: bool | None = None  # state: "active" means that it resets the host unless it is kept from it
    timeout_s: int | None = None
    min_timeout_s: int | None = None
    max_timeout_s: int | None = None
    pretimeout_s: int | None = None  # 0: none
    governor: str = ""  # pretimeout_governor: "panic", "noop"
    nowayout: bool | None = None
    fed: bool = False  # by the agent, as a policy says
    boot_causes: list[str] = []  # bootstatus: why the last boot came, "watchdog", "overheat", "power", ...


class Cmdline(msgspec.Struct, kw_only=True, omit_defaults=True, tag="cmdline", tag_field="kind"):
    """Boot parameters that matter to tuning, of /proc/cmdline (`key` is "cmdline"). Others are left out."""

    key: str = "cmdline"
    given: dict[str, list[str]] = {}  # name -> values in their order, with "_" for "-"; "" for one without value
    effective: dict[str, str] = {}  # what counts: the last one, all joined by commas where they add up
    hugepages: dict[str, str] = {}  # page size ("1G", "default") -> pages reserved: "16", "0:8,1:8"


class Clock(msgspec.Struct, kw_only=True, omit_defaults=True, tag="clock", tag_field="kind"):
    """The system's clock (`key` is "clock")."""

    key: str = "clock"
    source: str = ""  # /sys/devices/system/clocksource/clocksource0/current_clocksource
    available: list[str] = []  # available_clocksource, best first
    synchronised: bool | None = None  # adjtimex: no STA_UNSYNC
    pps: bool | None = None  # adjtimex: STA_PPSSIGNAL
    tai_offset_s: int | None = None  # adjtimex, 0: nobody set it


class PtpClock(msgspec.Struct, kw_only=True, omit_defaults=True, tag="ptp_clock", tag_field="kind"):
    """One PTP hardware clock (/sys/class/ptp)."""

    key: str  # PCI address of its device, with "#2" for a second clock there; its name where it has no device
    index: int  # ptpN, which NICs name as `phc`
    name: str = ""  # clock_name
    max_adjustment_ppb: int | None = None
    alarms: int | None = None
    external_timestamps: int | None = None
    periodic_outputs: int | None = None
    pins: list[str] = []
    pps: bool | None = None
    vclocks: int | None = None


class Timestamping(msgspec.Struct, kw_only=True, omit_defaults=True, tag="timestamping", tag_field="kind"):
    """How a NIC stamps frames with the time (ethtool TSINFO_GET)."""

    key: str  # as of `Nic`
    ifname: str = ""
    phc: int | None = None  # index of its PTP hardware clock
    capabilities: list[str] = []  # SOF_TIMESTAMPING_: "hardware-transmit", "software-receive", ...
    tx: list[str] = []  # HWTSTAMP_TX_: "off", "on", "onestep-sync"
    rx: list[str] = []  # HWTSTAMP_FILTER_: "none", "all", "ptpv2-l4-event", ...
    tx_type: str = ""  # SIOCGHWTSTAMP: the one of `tx` in force; "" where the driver does not say
    rx_filter: str = ""  # the one of `rx` in force
    owner: str = ""  # program that has the hardware clock open: "ptp4l", "phc2sys", "chronyd", ...


class Firmware(msgspec.Struct, kw_only=True, omit_defaults=True, tag="firmware", tag_field="kind"):
    """One thing with firmware in it. The BMC's is in the facts about the BMC."""

    key: str  # "bios", "nic/0000:3b:00.0/fw.mgmt", "nvme/0000:5e:00.0", "drive/...", "esrt/<class>"
    type: str  # "bios", "nic", "nvme", "drive", "esrt"
    device: str = ""  # where it is: PCI address, block device, interface
    name: str = ""  # model or driver
    part: str = ""  # devlink's word: "fw.mgmt", "fw.undi", "fw.cpld", "board.id", ...
    running: str = ""  # version in use
    stored: str = ""  # version in flash, where the device tells both: the next reset runs it
    fixed: str = ""  # of what is not flashed: revisions of boards and chips
    date: str = ""
    vendor: str = ""
    lowest: str = ""  # ESRT: the lowest version it can go back to
    last_attempt: str = ""  # ESRT: how the last update went, "" for no attempt
    boot: str = ""  # of the BIOS row: "uefi 64-bit" or "legacy"


class Led(msgspec.Struct, kw_only=True, omit_defaults=True, tag="led", tag_field="kind"):
    """One light (/sys/class/leds)."""

    key: str  # its name there: "enp3s0-0::lan", "pca963x:red:locate"
    device: str = ""  # what it is part of: its PCI address, else its own name
    brightness: int | None = None  # where nothing drives it
    max_brightness: int | None = None
    trigger: str = ""  # what drives it: "none", "netdev", "timer", ...
    triggers: list[str] = []  # what could
