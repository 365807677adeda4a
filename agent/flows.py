"""The connections by which this host is reached, and flow rules that would take them away or elsewhere.

Unlike what may drop a link, this is refused whatever the policy allows: no dead-man is needed to know how it ends.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from agent import guard
from machine import Machine, NotPresentError
from tuners.ntuple import takes_away
from wire.flowrule import Flow, may_match, parse_rule
from wire.policy import Change, Request

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_ESTABLISHED, _INODE = "01", 9


def read(machine: Machine, peers: Iterable[str] = ()) -> list[Flow]:
    """Live SSH sessions, and any connection with `peers` (addresses, the broker's). Raises MachineError."""
    flows = [Flow(address, None, "", None) for address in peers]
    sockets = guard.ssh_sockets(machine)
    for path in _TABLES:
        try:
            flows += parse(machine.read(path), sockets)
        except NotPresentError:
            continue
    return sorted(set(flows), key=str)


def parse(text: str, sockets: Collection[str] = ()) -> list[Flow]:
    """Established connections to SSH's port or of these sockets, of /proc/net/tcp or tcp6."""
    found: list[Flow] = []
    for fields in map(str.split, text.splitlines()[1:]):
        if len(fields) < 4 or fields[3] != _ESTABLISHED:
            continue
        local, _, local_port = fields[1].rpartition(":")
        remote, _, remote_port = fields[2].rpartition(":")
        if int(local_port, 16) == guard.SSH_PORT or (len(fields) > _INODE and fields[_INODE] in sockets):
            ends = guard.parse_address(remote), int(remote_port, 16), guard.parse_address(local), int(local_port, 16)
            found.append(Flow(*ends))
    return found


def refused(changes: Sequence[Change], flows: Sequence[Flow], path: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Settings (knob, NIC key) with a rule on the management path that a management connection may match, and why."""
    found: dict[tuple[str, str], str] = {}
    for change in changes:
        op = change.op
        if not isinstance(op, Request) or op.message != "ntuple" or change.nic not in path or not op.after["rule"]:
            continue
        rule = parse_rule(str(op.after["rule"]))
        hit = next((flow for flow in flows if takes_away(rule) and may_match(rule, flow)), None)
        if hit:
            why = f"{change.target} would take the connection with {hit.remote} away: {op.after['rule']}"
            found.setdefault((change.knob, change.nic), why)
    return found
