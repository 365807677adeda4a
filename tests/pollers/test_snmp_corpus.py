"""Every recorded walk, served by snmpsim and polled for real, against the values LibreNMS has of it.

The instance (OID) is what joins the two: what a profile reads there must be what LibreNMS reads there, in its unit.
Where LibreNMS and the MIB differ the MIB counts, and the difference stands in a table below.
"""

import math
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from pollers import snmp
from pollers.profile import Plan, choose
from pollers.snmp import Examined
from tests.pollers.conftest import Corpus
from wire.codec import encode
from wire.facts import FACT, Lldp, Port

ENTERPRISE = "1.3.6.1.4.1."
# A column of LibreNMS's -> why what it takes for a reading is none, or another one, by the MIB.
NO_READING = {
    "318.1.1.1.2.2.21": "the date of the next battery, made days to go by LibreNMS",
    "318.1.1.1.2.1.3": "the date of the last battery, made days gone by LibreNMS",
    "13742.6.5.5.3.1.4": "of a state sensor the state stands in column 3, the value says nothing",
    "13742.6.5.4.3.1.4": "of a state sensor the state stands in column 3, the value says nothing",
    "13742.6.5.3.3.1.4": "of a state sensor the state stands in column 3, the value says nothing",
}
OFFLINE = {  # AKCP: a value is LibreNMS's as long as it is not 0; by the MIB as long as the sensor is online
    "3854.1.2.2.1.17.1.13": "3854.1.2.2.1.17.1.5",
    "3854.1.2.2.1.16.1.14": "3854.1.2.2.1.16.1.5",
}
PERCENT_FOR_ONE = "13742.6.5."  # LibreNMS leaves the decimal digits of a power factor out
DARK_DBM = -39.99  # no light
MINUTES = {"runtime": 60.0}
WRITTEN_FOR = {
    *(
        "akcp_serverprobe8",
        "apc-cpdu",
        "apc-netbotz_netbotz750",
        "apc_ap7900b",
        "apc_ap8959eu3",
        "apc_ats",
        "apc_smx750",
    ),
    *(
        "arista_eos_vrf",
        "cyberpower_pdu81005",
        "dell-os10",
        "dell-rpdu",
        "drac_idrac7",
        "eaton-mgeups_9px",
        "eatonpdu_dbq",
    ),
    *(
        "gude-esb_7213-12",
        "hpe-mapdu_pdu3",
        "hwg-poseidon",
        "junos_qfx5100",
        "nxos_n9k-c93180yc-fx3",
        "raritan-pdu_px2",
    ),
    *("raritan-pdu_px3", "schleifenbauer", "sentry3_switched", "sentry4", "supermicro-bmc_x11", "vertiv-pdu_mg02e4w1"),
}
OPER = {"lowerLayerDown": "lower layer down", "notPresent": "not present"}


def sensors(expected: dict[str, Any]) -> list[dict[str, Any]]:
    found = expected.get("sensors", {}).get("discovery", {})
    return found.get("sensors", []) if isinstance(found, dict) else []


def ports(expected: dict[str, Any]) -> list[dict[str, Any]]:
    found = expected.get("ports", {}).get("poller", {})
    return found.get("ports", []) if isinstance(found, dict) else []


def excused(oid: str, sensor: dict[str, Any], rows: dict[str, str], plan: Plan) -> bool:
    """Whether there is no reading by the MIB."""
    column = oid.removeprefix(ENTERPRISE)
    state = sensor["sensor_class"] == "state"
    for known in NO_READING:
        if column.startswith(f"{known}.") and (state or known.startswith("318.")):
            return True
    for known, online in OFFLINE.items():
        if column.startswith(f"{known}."):
            return rows.get(f"{ENTERPRISE}{online}{column.removeprefix(known)}") != "1"
    dark = sensor["sensor_class"] == "dbm" and float(sensor["sensor_current"]) <= DARK_DBM
    return dark or sentinel(oid, rows[oid], plan)


def sentinel(oid: str, raw: str, plan: Plan) -> bool:
    """Whether a profile says that this is sent in the place of a reading."""
    readings = [one for table in plan.tables for several in table.samples.values() for one in several]
    said = [one.null for one in readings if oid.startswith(f"{one.oid}.")]
    return any(raw.lstrip("-").isdigit() and int(raw) in null for null in said)


def same(sensor: dict[str, Any], oid: str, metric: str, value: float) -> bool:
    """Whether a reading is the expected value, each in its unit."""
    kind, wanted = sensor["sensor_class"], float(sensor["sensor_current"])
    ours = value / MINUTES.get(kind, 1.0)
    if kind == "dbm" and metric.endswith("_watts"):
        ours = 10 * math.log10(value * 1000)
    if kind == "power_factor" and oid.startswith(ENTERPRISE + PERCENT_FOR_ONE):
        ours *= 100
    return math.isclose(ours, wanted, rel_tol=1e-3, abs_tol=1e-4)


def asked(plan: Plan) -> set[str]:
    """The columns and objects the plan reads."""
    found = {one.oid for table in plan.tables for several in table.samples.values() for one in several}
    return found | {one.oid for table in plan.tables for several in table.fields.values() for one in several}


def test_every_value_is_the_expected_one(corpus: Corpus, walk: str) -> None:
    found = corpus.poll(walk)
    rows = {row.oid: row.value for row in corpus.rows(walk)}
    columns = asked(choose(found.device.object_id))
    wrong = [
        what for oid, what in differences(corpus, walk, found, rows) if any(oid.startswith(f"{c}.") for c in columns)
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_left_out(corpus: Corpus) -> None:
    """Of the devices the profiles were written for: every sensor of theirs is read."""
    left: list[str] = []
    for path in sorted(corpus.folder.glob("*.snmprec")):
        if path.stem in WRITTEN_FOR:
            rows = {row.oid: row.value for row in corpus.rows(path.stem)}
            left += [f"{path.stem}: {what}" for _, what in differences(corpus, path.stem, corpus.poll(path.stem), rows)]
    assert not left, "\n".join(left)


def differences(corpus: Corpus, walk: str, found: Examined, rows: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Where what was read is not what LibreNMS has: instance, and what is wrong."""
    measured = {one.oid: one for one in found.measured}
    words = {one.oid for one in found.words}
    plan = choose(found.device.object_id)
    for sensor in sensors(corpus.expected(walk)):
        oid = (sensor["sensor_oid"] or "").lstrip(".")
        if oid not in rows or sensor["sensor_current"] is None or excused(oid, sensor, rows, plan):
            continue
        what = f"{oid} {sensor['sensor_class']} {sensor['sensor_descr']}: {sensor['sensor_current']}"
        if oid in measured and not same(sensor, oid, measured[oid].metric, measured[oid].value):
            yield oid, f"{what} is not {measured[oid].value} ({measured[oid].metric})"
        elif oid not in measured and oid not in words and not other_object(oid, plan, measured):
            yield oid, f"not read: {what}"


def other_object(oid: str, plan: Plan, measured: Collection[str]) -> bool:
    """Whether the same was read from an object that says it better."""
    for table in plan.tables:
        for several in table.samples.values():
            columns = [one.oid for one in several]
            for column in columns:
                if oid.startswith(f"{column}."):
                    return any(f"{other}{oid.removeprefix(column)}" in measured for other in columns)
    return False


def test_the_device_says_who_it_is(corpus: Corpus, walk: str) -> None:
    device = corpus.poll(walk).device
    rows = {row.oid: row for row in corpus.rows(walk)}
    assert device.object_id == rows[snmp.OBJECT_ID].value.lstrip(".")
    known = corpus.expected(walk).get("os", {}).get("discovery", {}).get("devices", [{}])[0]
    own = choose(device.object_id).device
    if known.get("serial") and device.serial and "serial" in own:
        assert device.serial == known["serial"]
    if walk in WRITTEN_FOR and known.get("hardware") and device.model:
        ours, theirs = device.model.casefold(), known["hardware"].casefold()
        assert set(ours.split()) & set(theirs.split()) or ours.replace("-", "") in theirs.replace("-", "")


def test_ports_are_those_of_the_device(corpus: Corpus, walk: str) -> None:
    by_index = {port.ifindex: port for port in corpus.poll(walk).facts if isinstance(port, Port)}
    rows = {row.oid: row for row in corpus.rows(walk)}
    for wanted in ports(corpus.expected(walk)):
        index = wanted["ifIndex"]
        if f"1.3.6.1.2.1.2.2.1.8.{index}" not in rows:
            continue  # a recording that left IF-MIB out
        port = by_index[index]
        assert port.oper == OPER.get(wanted["ifOperStatus"], wanted["ifOperStatus"]) or wanted["ifOperStatus"] is None
        assert wanted["ifMtu"] in (None, port.mtu)
        if wanted["ifPhysAddress"] and port.mac:
            assert port.mac.replace(":", "") == wanted["ifPhysAddress"]
        high = rows.get(f"1.3.6.1.2.1.31.1.1.1.15.{index}")
        if high is not None and high.value != "0":
            assert port.speed_mbps == int(high.value)


def test_facts_have_keys_of_their_own_and_travel(corpus: Corpus, walk: str) -> None:
    found = corpus.poll(walk)
    facts = [found.device, *found.facts]
    names = [(fact.__struct_config__.tag, fact.key) for fact in facts]
    assert len(set(names)) == len(names)
    assert [FACT.decode(encode(fact)) for fact in facts] == facts
    series = [(one.metric, one.key) for one in found.measured]
    assert len(set(series)) == len(series)
    assert all(math.isfinite(one.value) and one.value != -1000000000 for one in found.measured)


def test_neighbours_of_the_switches(corpus: Corpus, walk: str) -> None:
    found = [fact for fact in corpus.poll(walk).facts if isinstance(fact, Lldp)]
    rows = {row.oid for row in corpus.rows(walk)}
    heard = [oid for oid in rows if oid.startswith("1.0.8802.1.1.2.1.4.1.1.5.")]
    assert len(found) == len(heard)
    links = corpus.expected(walk).get("discovery-protocols", {}).get("discovery", {}).get("links", [])
    for link in links:
        if link["protocol"] == "lldp" and link["ifName"] and link["remote_hostname"]:
            ours = [one for one in found if one.port in (link["ifName"], link["ifAlias"], link["ifDescr"])]
            names = {name for one in ours for name in (one.system_name, one.chassis_id.replace(":", ""))}
            assert link["remote_hostname"] in names
            ports = {port for one in ours for port in (one.port_id, one.port_description, one.port_id.replace(":", ""))}
            assert any(link["remote_port"].startswith(port) for port in ports if port)


def test_what_lldp_says_of_an_arista(corpus: Corpus) -> None:
    if not (corpus.folder / "arista_eos_vrf.snmprec").exists():
        pytest.skip("the walk of an Arista is not in this folder")
    found = {fact.port: fact for fact in corpus.poll("arista_eos_vrf").facts if isinstance(fact, Lldp)}
    assert set(found) == {"Ethernet1", "Ethernet23", "Ethernet24", "Management1"}
    assert (found["Ethernet23"].port_subtype, found["Ethernet23"].port_id) == ("ifname", "Ethernet23")
    assert found["Ethernet23"].chassis_id == "00:1c:73:b3:af:bb"
    assert found["Ethernet1"].management == ["172.29.173.53"]
    assert found["Management1"].management == ["00:24:a8:e1:d0:80"]
    assert found["Management1"].port_id == "41"


def test_every_profile_is_used_by_a_device() -> None:
    """Of the walks that come with the project's corpus: each vendor's profile chosen by a sysObjectID of its own."""
    assert choose("1.3.6.1.4.1.318.1.3.4.8").name == "apc-pdu"
    assert choose("1.3.6.1.4.1.318.1.3.27").name == "apc-ups"
    assert choose("1.3.6.1.4.1.318.9").name == "apc"
    assert choose("1.3.6.1.4.1.99999").name == ""
    assert choose("").category == ""
