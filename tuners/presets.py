"""What people mean by "throughput": values per knob, to start from and to measure."""

from wire.policy import Values

_PLACED: dict[str, Values] = {
    "irq_affinity": {"placement": "local"},  # ESnet interrupt-binding: the wrong socket costs up to half at 40/100G
    "xps": {"mode": "auto"},  # kernel scaling.rst: one queue per CPU, else shared within a cache
    "rps": {"mode": "auto"},  # kernel scaling.rst: redundant with a queue per CPU, a memory domain with fewer
}

PRESETS: dict[str, dict[str, Values]] = {
    # ESnet 100g-tuning: rings at their maximum, adaptive moderation both ways, interrupts on the NIC's node.
    "throughput": {
        "channels": {"combined": "auto"},  # scaling.rst: no gain from hyperthreads or from more queues than cores
        "rings": {"rx": "max", "tx": "max"},
        "offloads": {"gro": True, "gso": True, "tso": True},
        "coalesce": {"adaptive_rx": True, "adaptive_tx": True},
        "cpu_power": {"governor": "performance"},  # ESnet 100g-tuning; TuneD throughput-performance
        **_PLACED,
    },
    # ice README "latency": moderation 0/0; rings are not grown (SIGCOMM 2021, host stack: they spill out of the cache).
    "latency": {
        "channels": {"combined": "auto"},
        "offloads": {"lro": False},
        "coalesce": {"adaptive_rx": False, "adaptive_tx": False, "rx_usecs": 0, "tx_usecs": 0},
        "cpu_power": {"cpus": "irq", "wakeup_us": 3},  # TuneD latency-performance: C1, else 3 µs; here where IRQs are
        "busy_poll": {"busy_read": 50, "busy_poll": 50},  # TuneD network-latency; Linux 91815639: TCP_RR x2.3 on virtio
        "numa_memory": {"numa_balancing": False},  # TuneD network-latency: its page faults come at any moment
        **_PLACED,
    },
    # mlnx_tune IP_FORWARDING_MULTI_STREAM: rings 8192, GRO off, adaptive-rx on, adaptive-tx off; LRO breaks forwarding.
    "pps": {
        "channels": {"combined": "auto"},
        "rings": {"rx": "max", "tx": "max"},
        "offloads": {"gro": False, "lro": False},
        "rss": {"udp4": "sdfn", "udp6": "sdfn"},  # ethtool(8): by addresses alone one pair's UDP is one queue's
        "coalesce": {"adaptive_rx": True, "adaptive_tx": False},
        **_PLACED,
    },
    # Nothing that resets queues of a driver at its defaults: kernel offload defaults, adaptive receive, placement.
    "balanced": {
        "offloads": {"gro": True, "gso": True, "tso": True},
        "coalesce": {"adaptive_rx": True},
        **_PLACED,
    },
}
