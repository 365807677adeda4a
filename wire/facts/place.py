"""Who runs where: cgroups of services, processes, and shares of cache and memory bandwidth."""

import msgspec


class Unit(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The cgroup of one slice, service or scope of systemd."""

    path: str  # below the root of cgroup v2: "/system.slice/ssh.service"
    cpus: str = ""  # cpuset.cpus, "" where it has the parent's
    effective: str = ""  # cpuset.cpus.effective, "" where the parent has no cpuset controller
    mems: str = ""  # cpuset.mems
    partition: str = ""  # cpuset.cpus.partition: "member", "root", "isolated", "root invalid (why)"


class Slices(msgspec.Struct, kw_only=True, omit_defaults=True, tag="slices", tag_field="kind"):
    """What systemd runs, and on which CPUs and memory nodes (`key` is "slices"). CPU sets are kernel cpulists."""

    key: str = "slices"
    units: list[Unit] = []  # by path
    cpuset: bool = False  # cgroup.controllers of the root has it
    workqueues: str = ""  # /sys/devices/virtual/workqueue/cpumask, as a list
    keepers: list[str] = []  # paths of the units that the agent itself and SSH servers are in


class Process(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One process that is no kernel thread, older than ten seconds."""

    pid: int
    start: int  # /proc/PID/stat field 22, ticks since boot: a pid that is used again has another
    comm: str
    cgroup: str = ""  # of cgroup v2
    threads: dict[str, list[int]] = {}  # Cpus_allowed_list -> thread ids


class Processes(msgspec.Struct, kw_only=True, omit_defaults=True, tag="processes", tag_field="kind"):
    """The processes of the host by pid (`key` is "processes")."""

    key: str = "processes"
    processes: list[Process] = []
    left_out: int = 0  # beyond the most that are told


class CacheResource(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One resource of resctrl, as its folder in info says."""

    name: str  # "L3", "L3CODE", "L2", "MB"
    cbm_mask: str = ""  # hexadecimal; of caches
    min_cbm_bits: int | None = None
    sparse: bool = False  # sparse_masks: bits need not be contiguous
    closids: int | None = None  # num_closids: how many groups there may be
    min_percent: int | None = None  # min_bandwidth; of MB
    step_percent: int | None = None  # bandwidth_gran


class CacheGroup(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One control group of resctrl; "" is the default group."""

    name: str = ""
    mode: str = ""
    cpus: str = ""  # cpus_list
    schemata: dict[str, dict[str, str]] = {}  # "L3" -> "0" -> "7ff"
    tasks: list[int] = []  # thread ids; of the default group none are told


class Resctrl(msgspec.Struct, kw_only=True, omit_defaults=True, tag="resctrl", tag_field="kind"):
    """Shares of cache and memory bandwidth (`key` is "resctrl"): /sys/fs/resctrl, where it is mounted."""

    key: str = "resctrl"
    resources: list[CacheResource] = []
    groups: list[CacheGroup] = []
