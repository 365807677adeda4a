"""What runs at an interface before the kernel's own stack."""

import msgspec


class Xdp(msgspec.Struct, kw_only=True, omit_defaults=True, tag="xdp", tag_field="kind"):
    """The XDP program of one NIC, and what its driver can do with such."""

    key: str  # of the NIC
    ifname: str
    ifindex: int
    features: list[str] | None = None  # netdev-genl xdp-features: "basic", "redirect", "rx-sg", ...; None: not said
    mode: str = ""  # IFLA_XDP_ATTACHED: "native", "generic", "hardware", "multiple"; "" for no program
    program: int = 0  # id
    tag: str = ""  # the kernel's hash of the program
    name: str = ""
    owner: str = ""  # "rackhand", "libxdp", "cilium", "katran", "other"; "" for no program, or when it may not be asked
    settings: dict[str, str | int | bool] = {}  # of ours, names of wire.xdp.NOTHING
