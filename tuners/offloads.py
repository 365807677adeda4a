"""Which work the NIC does for the CPU: ethtool features, by the kernel's names or by the usual short ones."""

from collections.abc import Iterable, Mapping, Sequence

from tuners import projection
from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, ethtool_change, impossible, skip
from wire.facts import Ethtool, Ntuple
from wire.policy import Blast, Setting, Values

NAME = "offloads"
ABOUT = About(
    stage=Stage.SHAPE,
    what="work the NIC does for the CPU",
    interface="ethtool netlink FEATURES_SET",
    unit="on, off",
    undo="the features before",
    blast=Blast.LINK,
    facts=("nic", "ethtool", "ntuple"),
    quirks="ntuple off deletes the rules, so it is refused while there are some",
)

ALIASES: dict[str, tuple[str, ...]] = {
    "gro": ("rx-gro",),
    "gro-hw": ("rx-gro-hw",),
    "gso": ("tx-generic-segmentation",),
    "lro": ("rx-lro",),
    "ntuple": ("rx-ntuple-filter",),
    "rx": ("rx-checksum",),
    "rxhash": ("rx-hashing",),
    "rxvlan": ("rx-vlan-hw-parse",),
    "sg": ("tx-scatter-gather",),
    "tso": ("tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-tcp-ecn-segmentation"),
    "tx": ("tx-checksum-ipv4", "tx-checksum-ip-generic", "tx-checksum-ipv6"),
    "txvlan": ("tx-vlan-hw-insert",),
}

# The kernel's own names: net/ethtool/common.c netdev_features_strings, those an administrator can change.
FEATURES: tuple[str, ...] = (
    "esp-hw-offload",
    "esp-tx-csum-hw-offload",
    "fcoe-mtu",
    "hsr-dup-offload",
    "hsr-fwd-offload",
    "hsr-tag-ins-offload",
    "hsr-tag-rm-offload",
    "hw-tc-offload",
    "l2-fwd-offload",
    "loopback",
    "macsec-hw-offload",
    "rx-all",
    "rx-checksum",
    "rx-fcs",
    "rx-gro",
    "rx-gro-hw",
    "rx-gro-list",
    "rx-hashing",
    "rx-lro",
    "rx-ntuple-filter",
    "rx-udp-gro-forwarding",
    "rx-udp_tunnel-port-offload",
    "rx-vlan-filter",
    "rx-vlan-hw-parse",
    "rx-vlan-stag-filter",
    "rx-vlan-stag-hw-parse",
    "tls-hw-record",
    "tls-hw-rx-offload",
    "tls-hw-tx-offload",
    "tx-checksum-fcoe-crc",
    "tx-checksum-ip-generic",
    "tx-checksum-ipv4",
    "tx-checksum-ipv6",
    "tx-checksum-sctp",
    "tx-esp-segmentation",
    "tx-fcoe-segmentation",
    "tx-generic-segmentation",
    "tx-gre-csum-segmentation",
    "tx-gre-segmentation",
    "tx-gso-list",
    "tx-gso-partial",
    "tx-gso-robust",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
    "tx-nocache-copy",
    "tx-scatter-gather",
    "tx-scatter-gather-fraglist",
    "tx-sctp-segmentation",
    "tx-tcp-accecn-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tunnel-remcsum-segmentation",
    "tx-udp-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-vlan-hw-insert",
    "tx-vlan-stag-hw-insert",
)

VALUES: dict[str, Spec] = {name: Spec(bool, f"= {', '.join(ALIASES[name])}") for name in ALIASES} | {
    name: Spec(bool, "the kernel's feature") for name in FEATURES
}

project = projection.ethtool


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One ethtool request per NIC whose features differ; a feature that is fixed or missing is skipped by name."""
    for setting in settings:
        fact = facts.ethtool.get(setting.nic)
        if fact is None or not fact.features:
            yield skip(setting, facts.nics[setting.nic].ifname, "unsupported by the driver")
        else:
            yield from _one(setting, fact, {rules.key: len(rules.rules) for rules in facts.of(Ntuple)})


def takes_rules_away(setting: Setting) -> bool:
    """True when the setting turns off what flow rules need, and they would go with it."""
    return setting.values.get("rx-ntuple-filter", setting.values.get("ntuple")) is False


def _one(setting: Setting, fact: Ethtool, rules: Mapping[str, int]) -> Iterable[Step]:
    before: Values = {}
    after: Values = {}
    for name, (wanted, asked) in sorted(_features(setting.values, fact).items()):
        active = fact.features.get(name)
        if active is None:
            yield skip(setting, f"{fact.ifname} {asked}", f"the driver has no {name}")
        elif active == wanted:
            continue
        elif name in fact.features_fixed:
            yield skip(setting, f"{fact.ifname} {asked}", f"{name} is fixed {'on' if active else 'off'} by the driver")
        elif name == "rx-ntuple-filter" and rules.get(fact.key):
            reason = f"turning it off deletes {rules[fact.key]} flow rules: take them away first"
            yield impossible(setting, f"{fact.ifname} {asked}", reason)
        else:
            before[name], after[name] = active, wanted
    if after:
        yield ethtool_change(setting, fact, before, after, "as the policy says")


def _features(values: Values, fact: Ethtool) -> dict[str, tuple[bool, str]]:
    """Kernel name -> (wanted, name in the policy); a kernel name beats a short one that covers it.

    A short name that stands for several features means those of them that this driver lets change.
    """
    found: dict[str, tuple[bool, str]] = {}
    for name in sorted(values, key=lambda name: (name not in ALIASES, name)):
        covered = ALIASES.get(name, (name,))
        known = [each for each in covered if each in fact.features]
        free = [each for each in known if each not in fact.features_fixed]
        for each in free or known or covered[:1]:
            found[each] = (bool(values[name]), name)
    return found
