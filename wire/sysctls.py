"""The network settings under /proc/sys that may be set: what each is, its bounds, and where that is written.

What another knob sets (rps_*, busy_poll) is not here, nor what is folklore: no tcp_low_latency, no tcp_timestamps=0.
"""

from typing import NamedTuple

_NET = "kernel admin-guide/sysctl/net.rst"
_IP = "kernel networking/ip-sysctl.rst"
_CONNTRACK = "kernel networking/nf_conntrack-sysctl.rst"
_INT_MAX = (1 << 31) - 1
_BYTES = _INT_MAX


class Key(NamedTuple):
    """One setting: so many `numbers` from `low` to `high`, or one of `words`."""

    unit: str
    low: int
    high: int
    source: str
    numbers: int = 1
    words: tuple[str, ...] = ()


def _core(unit: str, low: int, high: int) -> Key:
    return Key(unit, low, high, _NET)


def _ip(unit: str, low: int, high: int, numbers: int = 1) -> Key:
    return Key(unit, low, high, _IP, numbers)


_SWITCH = _ip("0 or 1", 0, 1)

KEYS: dict[str, Key] = {
    "net.core.somaxconn": _core("connections", 1, 65535),
    "net.core.netdev_max_backlog": _core("packets", 1, 10_000_000),
    "net.core.netdev_budget": _core("packets", 1, 100_000),
    "net.core.netdev_budget_usecs": _core("µs", 1, 1_000_000),
    "net.core.dev_weight": _core("packets", 1, 10_000),
    "net.core.netdev_tstamp_prequeue": _core("0 or 1", 0, 1),
    "net.core.gro_normal_batch": _core("packets", 1, 10_000),
    "net.core.rmem_max": _core("bytes", 2304, _BYTES),
    "net.core.wmem_max": _core("bytes", 4608, _BYTES),
    "net.core.rmem_default": _core("bytes", 2304, _BYTES),
    "net.core.wmem_default": _core("bytes", 4608, _BYTES),
    "net.core.optmem_max": _core("bytes", 4096, _BYTES),
    "net.core.default_qdisc": Key("discipline", 0, 0, _NET, words=("fq", "fq_codel", "pfifo_fast", "cake", "sfq")),
    "net.ipv4.tcp_rmem": _ip("bytes", 1, _BYTES, 3),
    "net.ipv4.tcp_wmem": _ip("bytes", 1, _BYTES, 3),
    "net.ipv4.tcp_mem": _ip("pages", 1, _INT_MAX, 3),
    "net.ipv4.udp_mem": _ip("pages", 1, _INT_MAX, 3),
    "net.ipv4.udp_rmem_min": _ip("bytes", 2304, _BYTES),
    "net.ipv4.udp_wmem_min": _ip("bytes", 4608, _BYTES),
    "net.ipv4.tcp_max_syn_backlog": _ip("connections", 1, 10_000_000),
    "net.ipv4.tcp_max_tw_buckets": _ip("connections", 1, 100_000_000),
    "net.ipv4.tcp_max_orphans": _ip("connections", 1, 100_000_000),
    "net.ipv4.tcp_congestion_control": Key(
        "algorithm", 0, 0, _IP, words=("cubic", "bbr", "dctcp", "reno", "htcp", "vegas", "westwood", "illinois")
    ),
    "net.ipv4.tcp_slow_start_after_idle": _SWITCH,
    "net.ipv4.tcp_notsent_lowat": _ip("bytes", 4096, (1 << 32) - 1),
    "net.ipv4.tcp_limit_output_bytes": _ip("bytes", 4096, _BYTES),
    "net.ipv4.tcp_mtu_probing": _ip("0, 1 or 2", 0, 2),
    "net.ipv4.tcp_window_scaling": _SWITCH,
    "net.ipv4.tcp_sack": _SWITCH,
    "net.ipv4.tcp_timestamps": _ip("1 or 2", 1, 2),
    "net.ipv4.tcp_ecn": _ip("0 to 5", 0, 5),
    "net.ipv4.tcp_fastopen": _ip("bits", 0, 0x7FF),
    "net.ipv4.tcp_moderate_rcvbuf": _SWITCH,
    "net.ipv4.tcp_no_metrics_save": _SWITCH,
    "net.ipv4.tcp_autocorking": _SWITCH,
    "net.ipv4.tcp_syncookies": _ip("0, 1 or 2", 0, 2),
    "net.ipv4.tcp_tw_reuse": _ip("0, 1 or 2", 0, 2),
    "net.ipv4.tcp_fin_timeout": _ip("s", 1, 3600),
    "net.ipv4.tcp_keepalive_time": _ip("s", 1, 32767),
    "net.ipv4.tcp_keepalive_intvl": _ip("s", 1, 32767),
    "net.ipv4.tcp_keepalive_probes": _ip("probes", 1, 127),
    "net.ipv4.tcp_retries2": _ip("retries", 1, 255),
    "net.ipv4.tcp_syn_retries": _ip("retries", 1, 127),
    "net.ipv4.tcp_min_tso_segs": _ip("segments", 1, 65535),
    "net.ipv4.tcp_tso_win_divisor": _ip("parts of the window", 0, 100),
    "net.ipv4.tcp_pacing_ss_ratio": _ip("%", 1, 1000),
    "net.ipv4.tcp_pacing_ca_ratio": _ip("%", 1, 1000),
    "net.ipv4.ip_local_port_range": _ip("ports", 1, 65535, 2),
    "net.ipv4.neigh.default.gc_thresh1": _ip("neighbours", 0, _INT_MAX),
    "net.ipv4.neigh.default.gc_thresh2": _ip("neighbours", 0, _INT_MAX),
    "net.ipv4.neigh.default.gc_thresh3": _ip("neighbours", 0, _INT_MAX),
    "net.ipv6.neigh.default.gc_thresh1": _ip("neighbours", 0, _INT_MAX),
    "net.ipv6.neigh.default.gc_thresh2": _ip("neighbours", 0, _INT_MAX),
    "net.ipv6.neigh.default.gc_thresh3": _ip("neighbours", 0, _INT_MAX),
    "net.netfilter.nf_conntrack_max": Key("connections", 1, _INT_MAX, _CONNTRACK),
}
AVAILABLE = "net.ipv4.tcp_available_congestion_control"  # read along: what the kernel has loaded


def path(name: str) -> str:
    """The file of a setting."""
    return f"/proc/sys/{name.replace('.', '/')}"


def row(name: str) -> str:
    """A setting's line of the README's table."""
    key = KEYS[name]
    span = ", ".join(key.words) or f"{key.low} to {key.high}"
    counted = f"{key.numbers} numbers, each {span}" if key.numbers > 1 else span
    return f"| `{name}` | {key.unit} | {counted} | {key.source} |"
