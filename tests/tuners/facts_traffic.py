"""Machines and settings for what shapes traffic: disciplines, kernel settings, link, timestamping, bridging."""

from collections.abc import Sequence

from hypothesis import strategies as st
from msgspec import structs

from tuners import dcb, link
from tuners.hostfacts import HostFacts
from wire.discipline import of_queues
from wire.facts import Dcb, Ethtool, Fact, Lldp, Nic, Qdisc, Sysctl, SysctlOwner, Timestamping
from wire.policy import Change, FileWrite, Request, Value

MODES = ["100baseT/Full", "1000baseT/Full", "10000baseT/Full"]
TSA = "ets,ets,ets,ets,strict,strict,strict,strict"
_EIGHT = st.lists(st.integers(0, 7), min_size=8, max_size=8).map(lambda found: ",".join(map(str, found)))

SPEC_VALUES: dict[str, dict[str, st.SearchStrategy[Value]]] = {
    "qdisc": {
        "discipline": st.sampled_from(["fq", "fq_codel", "pfifo", "pfifo_fast"]),
        "limit": st.integers(1, 20000),
        "flow_limit": st.integers(1, 200),
        "target_us": st.integers(1, 20000),
        "ecn": st.booleans(),
        "txqueuelen": st.sampled_from([0, 500, 1000]),
        "bql_max": st.just("max") | st.integers(0, 1 << 20),
        "bql_min": st.integers(0, 100),
        "tx_maxrate": st.sampled_from([0, 100]),
    },
    "sysctl_net": {
        "net.core.somaxconn": st.sampled_from(["4096", "=> 100", "at_least 9000"]),
        "net.core.netdev_budget": st.sampled_from(["300", "2000"]),
        "net.core.default_qdisc": st.sampled_from(["fq", "fq_codel"]),
        "net.ipv4.tcp_rmem": st.sampled_from(["4096 131072 16777216", "=> 8192 8192 16777216"]),
        "net.ipv4.tcp_congestion_control": st.sampled_from(["cubic", "bbr"]),
    },
    "link": {
        "speed": st.sampled_from(["max", 100, 1000, 10000, 25000]),
        "autoneg": st.booleans(),
        "fec": st.sampled_from(["auto", "off", "rs", "baser"]),
        **{f"pause_{name}": st.booleans() for name in ("autoneg", "rx", "tx")},
        "eee": st.booleans(),
        "why": st.just("the far end is slow"),
        "mtu": st.sampled_from([1400, 1500, 9000]),
        "mtu_force": st.booleans(),
        "mtu_probe": st.just("192.0.2.1"),
    },
    "timestamping": {
        "tx": st.sampled_from(["off", "on", "onestep-sync"]),
        "rx": st.sampled_from(["none", "all", "ptpv2-event", "ptpv2-l4-event"]),
    },
    "dcb": {
        "pfc": st.sampled_from(["off", "3", "3,4"]),
        "bandwidth": st.sampled_from(["50,0,0,50,0,0,0,0", "50,0,0,40,0,0,0,0"]),
        "tsa": st.just(TSA),
        "prio_tc": _EIGHT,
        "trust": st.sampled_from(["dscp", "pcp"]),
        "dscp": st.sampled_from(["off", "26:3", "48:6,26:3"]),
        "force": st.booleans(),
    },
}


@st.composite
def facts_of(draw: st.DrawFn, made: Sequence[Fact]) -> list[Fact]:
    """What stands on one NIC, its port, and a VLAN above it; any of it may be missing."""
    nic = next(fact for fact in made if isinstance(fact, Nic))
    ethtool = next(fact for fact in made if isinstance(fact, Ethtool))
    found: list[Fact] = [
        structs.replace(
            nic,
            mtu=1500,
            carrier=draw(st.booleans()),
            autoneg=draw(st.sampled_from([None, True, False])),
            speed_mbps=draw(st.sampled_from([None, 1000, 10000])),
            duplex=draw(st.sampled_from(["", "full"])),
        ),
        structs.replace(
            ethtool,
            supported=[*draw(st.sampled_from([[], MODES])), "Autoneg", "RS"],
            advertised=draw(st.lists(st.sampled_from(MODES), unique=True)),
            fec=draw(st.sampled_from([[], ["None"], ["auto", "None"], ["RS"]])),
            pause=draw(
                st.sampled_from(
                    [{}, {"autoneg": True, "rx": True, "tx": False}, {"autoneg": False, "rx": False, "tx": False}]
                )
            ),
            eee=draw(st.sampled_from([{}, {"enabled": True, "active": False}, {"enabled": False}])),
        ),
        Nic(
            key=f"{nic.ifname}.7",
            ifname=f"{nic.ifname}.7",
            ifindex=nic.ifindex + 500,
            type="vlan",
            lower=[nic.ifname],
            mtu=draw(st.sampled_from([1400, 1500])),
        ),
        Lldp(key=nic.key, max_frame_bytes=draw(st.sampled_from([None, 1522, 9216])), pfc=draw(_PFC)),
        Timestamping(
            key=nic.key,
            ifname=nic.ifname,
            phc=0,
            tx=["off", "on"],
            rx=draw(st.sampled_from([["none", "all"], ["none", "ptpv2-event"], []])),
            tx_type=draw(st.sampled_from(["", "off", "on"])),
            rx_filter=draw(st.sampled_from(["none", "all"])),
            owner=draw(st.sampled_from(["", "ptp4l"])),
        ),
        draw(disciplines(nic, ethtool.channels["combined"])),
        draw(bridging(nic)),
    ]
    return [fact for fact in found if isinstance(fact, (Nic, Ethtool)) or draw(st.booleans())]


_PFC: st.SearchStrategy[list[int] | None] = st.sampled_from([None, [], [3], [3, 4]])
_LEAF = st.sampled_from(["", "fq 8001: limit=10000 flow_limit=100", "fq_codel 0: target=4999 ecn=1", "pfifo_fast 0:"])


@st.composite
def disciplines(draw: st.DrawFn, nic: Nic, count: int) -> Qdisc:
    return Qdisc(
        key=nic.key,
        ifname=nic.ifname,
        ifindex=nic.ifindex,
        root=draw(st.sampled_from(["noqueue 0:", "mq 0:", "mq 7268:", "mqprio 1:", "fq 7268: limit=9", "htb 1:"])),
        queues=[draw(_LEAF) for _ in range(count)],
        foreign=draw(st.sampled_from([[], [], ["htb 1:"]])),
        txqueuelen=draw(st.sampled_from([None, 1000])),
        bql_max=[1000] * count if draw(st.booleans()) else [],
        bql_min=[0] * count if draw(st.booleans()) else [],
        tx_maxrate=[0] * count,
    )


@st.composite
def bridging(draw: st.DrawFn, nic: Nic) -> Dcb:
    has_ets = draw(st.booleans())
    return Dcb(
        key=nic.key,
        ifname=nic.ifname,
        ifindex=nic.ifindex,
        dcbx=draw(st.sampled_from([["host", "ieee"], ["lld"]])),
        pfc_capable=draw(st.sampled_from([None, 1, 8])),
        pfc=draw(_PFC),
        classes=8,
        bandwidth=[100, 0, 0, 0, 0, 0, 0, 0] if has_ets else [],
        tsa=["vendor"] * 8 if has_ets else [],
        prio_tc=[0] * 8 if has_ets else [],
        trust=draw(st.sampled_from([[], ["pcp"]])),
        dscp=draw(st.sampled_from([{}, {26: 3}, {26: 0, 48: 6}])),
    )


@st.composite
def facts(draw: st.DrawFn) -> list[Fact]:
    """The host's own settings, where any are there."""
    values = {
        "net.core.somaxconn": "4096",
        "net.core.netdev_budget": "300",
        "net.core.default_qdisc": "fq_codel",
        "net.ipv4.tcp_rmem": "4096 131072 6291456",
        "net.ipv4.tcp_congestion_control": "cubic",
        "net.ipv4.tcp_available_congestion_control": draw(st.sampled_from(["reno cubic", "reno cubic bbr"])),
    }
    owners = {"net.core.somaxconn": SysctlOwner(path="/etc/sysctl.d/1.conf", value="128")}
    return [Sysctl(values=values, owners=owners if draw(st.booleans()) else {})] if draw(st.booleans()) else []


def current(facts: HostFacts, change: Change) -> object:
    """What the facts say of the thing a change is about; None for what is not of these knobs."""
    op = change.op
    if isinstance(op, FileWrite):
        return _file(facts, change, op)
    if not isinstance(op, Request) or op.message not in ("qdisc", "linkmodes", "fec", "mtu", "hwtstamp", "dcb"):
        return None
    now = _texts(facts, change.nic, op)
    return {name: now[name] for name in op.before}


def _texts(facts: HostFacts, key: str, op: Request) -> dict[str, Value]:
    match op.message:
        case "qdisc":
            fact = next(one for one in facts.of(Qdisc) if one.key == key)
            leaves = dict(enumerate(fact.queues))
            return {name: fact.root if name == "root" else of_queues(leaves, name) for name in op.before}
        case "linkmodes":
            return {"mode": link.spell(facts.nics[key], facts.ethtool[key])}
        case "fec":
            return {"modes": ",".join(facts.ethtool[key].fec)}
        case "mtu":
            return {"mtu": next(nic.mtu for nic in facts.nics.values() if nic.ifname == op.ifname)}
        case "hwtstamp":
            stamps = next(one for one in facts.of(Timestamping) if one.key == key)
            return {"tx": stamps.tx_type, "rx": stamps.rx_filter}
        case _:
            return dict(dcb.spell(next(one for one in facts.of(Dcb) if one.key == key)))


def _file(facts: HostFacts, change: Change, op: FileWrite) -> object:
    if change.knob == "sysctl_net":
        return facts.of(Sysctl)[0].values[change.target]
    if change.knob == "link":
        name = change.target.removesuffix(" mtu")
        return str(next(nic.mtu for nic in facts.nics.values() if nic.ifname == name))
    if change.knob != "qdisc":
        return None
    fact = next(one for one in facts.of(Qdisc) if one.key == change.nic)
    if op.path.endswith("tx_queue_len"):
        return str(fact.txqueuelen)
    words = {"limit_max": fact.bql_max, "limit_min": fact.bql_min, "tx_maxrate": fact.tx_maxrate}
    queue = int(op.path.partition("/queues/tx-")[2].partition("/")[0])
    return str(words[op.path.rpartition("/")[2]][queue])
