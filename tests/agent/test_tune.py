"""`tune --explain` and `what-if`: a policy told in full, here and from a recorded machine."""

from pathlib import Path

import pytest

from agent import cli, explain
from agent.exits import OK, USAGE
from agent.guard import Path as Way
from agent.legs import Health, Leg
from tests.agent.space import Space
from tuners.hostfacts import HostFacts
from wire import codec
from wire.facts import Nic
from wire.policy import PLAN, Blast, Change, FileWrite, IrqBan, Op, Plan, Request, Skip

CAPTURES = Path(__file__).resolve().parents[1] / "captures"
POLICY = """
name: edge
nics: ["driver in igb,virtio_net", "type=physical"]
knobs:
  rings: {rx: 1024}
  channels: {combined: 2}
  irq_affinity: {placement: local}
"""


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "edge.yaml"
    path.write_text(POLICY)
    return str(path)


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert cli.main(argv) == OK
    return capsys.readouterr().out


def test_what_if_needs_no_machine(capsys: pytest.CaptureFixture[str], policy: str) -> None:
    text = said(capsys, "what-if", policy, "--capture", str(CAPTURES / "lab-igb-sriov.txt"))
    assert "channels  ens10   combined=4  combined=2  link" in text
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines() if "→" in line}
    assert rows["ens10"] == "4 → 2 256 → 1024 256 2-3 → anew"
    assert "known when the queues are there:\n" in text
    assert "stays:\n  mgmt0: the firmware does not say its NUMA node" in text


def test_what_if_shows_what_is_mended(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text("name: one\nknobs: {rps: {mode: auto}, irq_affinity: {placement: local}}\n")
    text = said(capsys, "what-if", str(path), "--capture", str(CAPTURES / "firecracker-virtio.txt"))
    assert "eth0  1       256      256      0-1 → 1" in text
    assert "mended:\n  eth0: one CPU does all receive work" in text


def test_what_if_explains_and_speaks_json(capsys: pytest.CaptureFixture[str], policy: str) -> None:
    argv = ("what-if", policy, "--capture", str(CAPTURES / "lab-igb-sriov.txt"))
    text = said(capsys, *argv, "--explain")
    assert "\nshape: queues, rings and offloads\n\n  channels of " in text
    assert "      ens10  rx 256 → 1024\n" in text
    assert "    danger  link\n" in text
    assert "  link  the link may drop; needs dead-man, one NIC at a time, probes, allow: [link]" in text
    assert "planned when the queues are there:\n" in text
    assert "  ens10: irq_affinity\n" in text
    made = codec.decode(PLAN, said(capsys, *argv, "-o", "json").encode())
    assert len(made.changes) == text.count("→ 1024") // 2 + text.count("combined 4 → 2")


@pytest.mark.parametrize("capture", ["", "no capture\n", "\0"])
def test_a_capture_that_is_none_is_one_line(
    capsys: pytest.CaptureFixture[str], policy: str, tmp_path: Path, capture: str
) -> None:
    path = tmp_path / "capture.txt"
    path.write_text(capture)
    assert cli.main(["what-if", policy, "--capture", str(path)]) == USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert cli.main(["what-if", policy, "--capture", str(tmp_path / "none")]) == USAGE
    assert "none" in capsys.readouterr().err


def change(knob: str, op: Op, nic: str = "", blast: Blast = Blast.SAFE, reason: str = "") -> Change:
    return Change(knob=knob, target=nic or "host", op=op, nic=nic, blast=blast, reason=reason)


def test_nics_are_told_in_the_order_in_which_they_are_changed() -> None:
    facts = HostFacts([Nic(key=key, ifname=f"if-{key}", ifindex=at) for at, key in enumerate("abc", 2)])
    op = Request("channels", {"combined": 4, "rx": 0}, {"combined": 2, "rx": 0})
    changes = [change("channels", op, key, Blast.LINK) for key in "abc"]
    leg = Leg("bond0", Health(carrier=True), active=True, others=1)
    path = Way({"a": "default route", "b": "default route"}, {"a": leg, "b": leg._replace(active=False)})
    text = explain.plan(Plan(changes=changes), facts, path)
    assert text.startswith("3 steps: 3 link\n\nshape: ")
    assert [line.split()[2] for line in text.splitlines() if line.startswith("  channels of")] == [
        "if-c:",
        "if-b:",
        "if-a:",
    ]
    assert text.count("combined 4 → 2\n") == 3, "what stays is not told"


def test_alike_steps_are_told_once_and_reasons_of_what_is_left_out_too() -> None:
    write = FileWrite("/proc/irq/1/smp_affinity_list", "", "3")
    steps = [change("irq_affinity", write, reason="near") for _ in range(11)]
    skips = [Skip(knob="rings", target=name, reason="no rings") for name in ("eth0", "eth1")]
    made = Plan(changes=[change("irq_affinity", IrqBan([], [1, 2])), *steps], skips=skips)
    text = explain.plan(made, HostFacts([]), Way())
    assert "host  0 → 2 interrupts are left alone" in text
    assert text.count("none → 3") == 8
    assert "      and 3 more\n" in text
    assert text.endswith("left out:\n  rings of eth0, eth1: no rings")
    assert explain.plan(Plan(), HostFacts([]), Way()) == "nothing to change"


@pytest.mark.root
def test_explain_changes_nothing_here(space: Space) -> None:
    before = space.snapshot()
    space.ip("route add default dev va")
    policy = space.state.parent / "veth.yaml"
    knobs = "{channels: {rx: 2}, rps: {mode: all}, rings: {rx: 64}}"
    policy.write_text(f"name: veth\nnics: [ifname=va]\nknobs: {knobs}\n")
    text = space.output(f"from agent import cli; cli.main(['tune', '--explain', {str(policy)!r}])")
    assert "place: which CPU does the work, and how\n\n  rps of va: " in text
    left_out = text.partition("left out:")[2]
    assert "  rings of va: unsupported by the driver\n" in left_out
    assert "  channels of va: va carries the default route; needs allow: [link]\n" in left_out
    assert space.snapshot() == before
