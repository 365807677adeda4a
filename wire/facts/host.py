"""The box: system, CPUs, memory, PCI functions, sensors."""

import msgspec


class Dmi(msgspec.Struct, kw_only=True, omit_defaults=True, tag="dmi", tag_field="kind"):
    """The system as a whole (`key` is "system")."""

    key: str = "system"
    hostname: str = ""  # uname -n
    kernel: str = ""  # uname -r
    arch: str = ""  # uname -m
    os: str = ""  # /etc/os-release PRETTY_NAME
    cmdline: str = ""  # /proc/cmdline
    vendor: str = ""  # /sys/class/dmi/id/sys_vendor
    product: str = ""  # .../product_name
    serial: str = ""  # .../product_serial
    uuid: str = ""  # .../product_uuid
    board_vendor: str = ""  # .../board_vendor
    board: str = ""  # .../board_name
    board_serial: str = ""  # .../board_serial
    chassis_type: int | None = None  # .../chassis_type, SMBIOS 7.4.1
    bios_vendor: str = ""  # .../bios_vendor
    bios_version: str = ""  # .../bios_version
    bios_date: str = ""  # .../bios_date


class CpuThread(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One logical CPU."""

    id: int
    node: int | None = None  # the NUMA node whose cpulist holds it
    package: int | None = None  # topology/physical_package_id
    core: int | None = None  # topology/core_id (unique within its package only)
    siblings: str = ""  # topology/thread_siblings_list, cpulist with itself
    llc: str = ""  # cpulist sharing its last-level cache: cache/indexN/shared_cpu_list


class Cpu(msgspec.Struct, kw_only=True, omit_defaults=True, tag="cpu", tag_field="kind"):
    """All CPUs (`key` is "cpu"). CPU sets are kernel cpulists such as "0-3,8"."""

    key: str = "cpu"
    model: str = ""  # /proc/cpuinfo "model name" (or the architecture's like)
    packages: int = 0
    cores: int = 0
    threads: int = 0  # online
    present: str = ""  # /sys/devices/system/cpu/present
    online: str = ""  # .../online
    isolated: str = ""  # .../isolated
    nohz_full: str = ""  # .../nohz_full, "" for "(null)"
    smt: str = ""  # .../smt/control
    governors: dict[str, str] = {}  # scaling_governor -> cpulist
    driver: str = ""  # cpufreq/scaling_driver
    cpus: list[CpuThread] = []  # the online ones, by id


class Numa(msgspec.Struct, kw_only=True, omit_defaults=True, tag="numa", tag_field="kind"):
    """One NUMA node (`key` is "node0"); a kernel without nodes yields none."""

    key: str
    node: int
    cpus: str = ""  # nodeN/cpulist; may be empty
    memory_kb: int | None = None  # nodeN/meminfo MemTotal
    distances: dict[str, int] = {}  # "node1" -> nodeN/distance


class Memory(msgspec.Struct, kw_only=True, omit_defaults=True, tag="memory", tag_field="kind"):
    """Main memory (`key` is "memory")."""

    key: str = "memory"
    total_kb: int  # /proc/meminfo MemTotal
    swap_kb: int = 0  # SwapTotal
    thp: str = ""  # /sys/kernel/mm/transparent_hugepage/enabled, the bracketed word
    thp_defrag: str = ""  # .../defrag, the bracketed word
    hugepages: dict[str, int] = {}  # "node0/2048kB" -> nr_hugepages
    hugepages_used: dict[str, int] = {}  # the same less free_hugepages; pools of which nothing is used are left out
    hugepages_promised: dict[str, int] = {}  # "2048kB" -> resv_hugepages: on whichever node they will be
    numa_balancing: int | None = None  # /proc/sys/kernel/numa_balancing
    zone_reclaim: int | None = None  # /proc/sys/vm/zone_reclaim_mode


class Dimm(msgspec.Struct, kw_only=True, omit_defaults=True, tag="dimm", tag_field="kind"):
    """One memory slot, full or empty: a memory device of SMBIOS (type 17, 7.18). Placeholder texts are left out."""

    key: str  # its locator; bank and locator where several slots have the same; unique on the host
    locator: str = ""  # device locator: "DIMM_A1"
    bank: str = ""  # bank locator: "P0_Node0_Channel0_Dimm0"
    populated: bool = False  # size is not 0
    size_mib: int | None = None  # None for an empty slot
    type: str = ""  # 7.18.2: "DDR4", "DDR5", ...; "0x7f" for a code that is not in the table
    form_factor: str = ""  # 7.18.1: "DIMM", "SODIMM", ...
    speed_mts: int | None = None  # what it is able to do
    configured_mts: int | None = None  # what it runs at
    vendor: str = ""  # as it is written there, be it a hexadecimal JEDEC number
    part: str = ""
    serial: str = ""
    ranks: int | None = None


class Pci(msgspec.Struct, kw_only=True, omit_defaults=True, tag="pci", tag_field="kind"):
    """One PCI function that is no bridge."""

    key: str  # address, 0000:4b:00.0
    class_id: str = ""  # six hex digits
    vendor_id: str = ""  # four hex digits
    device_id: str = ""
    subsystem_id: str = ""  # "vvvv:dddd"
    name: str = ""  # "Vendor Device" from pci.ids, "" when unknown
    driver: str = ""
    numa_node: int | None = None
    iommu_group: int | None = None
    speed_gts: float | None = None  # current_link_speed, GT/s
    width: int | None = None  # current_link_width, lanes
    max_speed_gts: float | None = None  # max_link_speed of the function
    max_width: int | None = None
    path_max_speed_gts: float | None = None  # the slowest port between it and the root
    path_max_width: int | None = None
    path_limit: str = ""  # address of the port that limits it, "" when none is slower than the function


class Hwmon(msgspec.Struct, kw_only=True, omit_defaults=True, tag="hwmon", tag_field="kind"):
    """One sensor. Values and limits are in `unit`; limits that are sentinels or contradict each other are left out."""

    key: str  # "<device>/<chip>/<channel>": "0000:03:00.0/nvme/temp1", stable over reboots
    chip: str  # hwmonN/name
    channel: str  # temp1, fan2, in0, power1, curr1
    label: str = ""  # *_label
    unit: str = ""  # "°C", "rpm", "V", "W", "A"
    min: float | None = None
    max: float | None = None
    crit: float | None = None
    alarm: bool = False  # *_alarm
    hot: bool = False  # a temperature's alarm for too much: max, crit, emergency
    file: str = ""  # of a temperature: its *_input, with its device's path
