"""What is found to be wrong with cables, from one end."""

from collectors.lldp import why_blocked
from tuners.findings import findings
from tuners.hostfacts import HostFacts
from wire.facts import Lldp
from wire.report import Severity


def test_a_deaf_port_is_found_with_the_command_that_helps() -> None:
    reason = why_blocked("ice", {"fw-lldp-agent": True}, "ens1f0")
    deaf = Lldp(key="b8:59:9f:00:00:01", port="ens1f0", state="blocked", reason=reason)
    heard = Lldp(key="b8:59:9f:00:00:02", port="ens1f1", chassis_id="00:1c:73:b3:af:bb")
    (one,) = findings(HostFacts([deaf, heard]))
    assert (one.rule, one.key, one.target, one.severity) == ("lldp_blocked", deaf.key, "ens1f0", Severity.INFO)
    assert one.text == "its neighbour is unknown: the NIC's firmware answers LLDP"
    assert one.remedy == "ethtool --set-priv-flags ens1f0 fw-lldp-agent off"
