"""Storage: drives, the controllers they hang on, arrays of them, and how each drive is."""

import msgspec


class Disk(msgspec.Struct, kw_only=True, omit_defaults=True, tag="disk", tag_field="kind"):
    """One disk, or namespace of an NVMe drive, over however many paths. Loops, RAM disks and device-mapper are none."""

    key: str  # its world-wide identifier; else model and serial number, else its place; unique on the host
    name: str  # sda, nvme0n1
    paths: list[str] = []  # of a disk with several: all of them, sda and sdc
    multipath: str = ""  # the device-mapper device over these paths
    transport: str = ""  # "nvme", "sata", "sas", "fc", "iscsi", "usb", "virtio", "scsi", "ide", "mmc"
    vendor: str = ""  # device/vendor
    model: str = ""  # device/model
    serial: str = ""  # device/serial, or the unit serial number page device/vpd_pg80
    firmware: str = ""  # device/firmware_rev or device/rev
    wwid: str = ""  # wwid or device/wwid, runs of spaces as one underscore
    size_bytes: int | None = None  # size * 512
    logical_block_bytes: int | None = None  # queue/logical_block_size
    physical_block_bytes: int | None = None  # queue/physical_block_size
    rotational: bool | None = None  # queue/rotational
    removable: bool = False  # removable
    read_only: bool = False  # ro
    scheduler: str = ""  # queue/scheduler, the bracketed word
    nr_requests: int | None = None  # queue/nr_requests
    write_cache: str = ""  # queue/write_cache: "write back", "write through"
    numa_node: int | None = None
    address: str = ""  # PCI address of what it hangs on
    place: str = ""  # host:channel:target:lun of a SCSI disk, its controller's name of an NVMe namespace
    state: str = ""  # device/state: "running", "live", "offline", ...


class Nvme(msgspec.Struct, kw_only=True, omit_defaults=True, tag="nvme", tag_field="kind"):
    """One NVMe controller: a drive has one, or one per port."""

    key: str  # its serial number; with its controller id where several have it, its address where it has none
    name: str  # nvme0
    model: str = ""
    serial: str = ""
    firmware: str = ""  # firmware_rev
    transport: str = ""  # "pcie", "tcp", "rdma", "fc", "loop"
    state: str = ""  # "live", "resetting", "dead", ...
    address: str = ""  # PCI address, or traddr and trsvcid
    nqn: str = ""  # subsysnqn: who the drive is, the same on all its ports
    controller_id: int | None = None  # cntlid
    numa_node: int | None = None
    queues: int | None = None  # queue_count, the admin queue among them
    namespaces: list[str] = []  # nvme0n1


class StorageController(msgspec.Struct, kw_only=True, omit_defaults=True, tag="storage_controller", tag_field="kind"):
    """One PCI function of class 01: HBA, RAID controller, AHCI."""

    key: str  # PCI address
    type: str = ""  # by its class: "scsi", "ide", "raid", "ata", "sata", "sas", "nvme", "ufs", "other"
    vendor_id: str = ""  # four hex digits
    device_id: str = ""
    driver: str = ""
    numa_node: int | None = None
    hosts: list[str] = []  # host0, ... in /sys/class/scsi_host
    board: str = ""  # scsi_host/hostN/board_name, modelname or model_name
    firmware: str = ""  # .../version_fw, fw_version, fwrev or firmware_revision
    bios: str = ""  # .../version_bios or option_rom_version
    disks: list[str] = []  # names of what hangs on it


class ArrayMember(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One device in an array."""

    name: str  # sda1
    slot: int | None = None  # [n] in /proc/mdstat, slot in sysfs
    flags: list[str] = []  # "faulty", "spare", "write_mostly", "replacement", "journal"


class Array(msgspec.Struct, kw_only=True, omit_defaults=True, tag="array", tag_field="kind"):
    """One array of Linux md."""

    key: str  # its UUID (md/uuid), else its name
    name: str  # md0
    level: str = ""  # "raid1"
    state: str = ""  # md/array_state, else "active" or "inactive" of /proc/mdstat
    read_only: bool = False  # (read-only) or (auto-read-only)
    size_kb: int | None = None
    wanted: int | None = None  # members it is to have: the first of [2/1]
    working: int | None = None  # the second; of what the machine says in several places, the least
    members: list[ArrayMember] = []
    action: str = ""  # "resync", "recovery", "check", "reshape" while that runs
    health: str = ""  # "ok", "degraded", "failed", "inactive"
    reason: str = ""  # one line; "" when ok


class DriveHealth(msgspec.Struct, kw_only=True, omit_defaults=True, tag="drive_health", tag_field="kind"):
    """What a drive says of its own health: NVMe's SMART log, or smartctl. Counters are in the samples as well."""

    key: str  # that of its `Disk`, or of its `Nvme`
    name: str  # sda, nvme0
    source: str = ""  # "nvme" (admin command), "smartctl"
    model: str = ""
    serial: str = ""
    firmware: str = ""
    verdict: str = "unknown"  # "ok", "warning", "failing", "asleep" (not woken), "unknown"
    reason: str = ""  # one line: why it is no "ok"
    passed: bool | None = None  # the drive's own overall answer
    warnings: list[str] = []  # critical warning bits: "spare", "temperature", "reliability", "read_only", "backup", ...
    percentage_used: int | None = None  # of its rated endurance; may go over 100
    spare_percent: int | None = None
    spare_threshold_percent: int | None = None
    media_errors: int | None = None  # unrecovered; NVMe: "media and data integrity errors"
    reallocated_sectors: int | None = None  # attribute 5, raw; SAS: grown defects
    pending_sectors: int | None = None  # attribute 197, raw
    uncorrectable_sectors: int | None = None  # attribute 198, raw
    crc_errors: int | None = None  # attribute 199, raw: the cable or backplane
    last_error: str = ""  # the newest media error in an NVMe drive's error log
    self_test: str = ""  # how the last self-test ended, "" when none is told
    temperature_warning_c: float | None = None  # NVMe: WCTEMP
    temperature_critical_c: float | None = None  # NVMe: CCTEMP; SAS: the trip temperature
