"""A policy file at work on this host without the inventory: plan it, apply it with a person as the confirmation."""

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from agent import guard, statefile
from agent.config import Config
from agent.transaction import BUSY, NOTHING
from collectors.run import collect_facts
from machine import Machine, MachineError
from machine.capture import Captured
from tuners import planner
from tuners.hostfacts import HostFacts
from tuners.policy import Policy, PolicyError, compile_settings, matches, parse_policy
from wire.codec import encode
from wire.policy import Desired, OutcomeStatus, Plan, Reported, Setting, Skip, content_hash

_ROOT = str(Path(__file__).resolve().parents[1])
_REPORTED = msgspec.json.Decoder(dict[str, Any])


class LocalError(Exception):
    """The policy cannot be planned or applied here; the message is one line."""


class TransactionBusyError(LocalError):
    """Another transaction is at work; try again later."""


class Compiled(NamedTuple):
    """A policy file as it comes out on this host."""

    policy: Policy
    settings: list[Setting]
    plan: Plan
    facts: HostFacts
    path: guard.Path


def compile_file(path: Path, config: Config, machine: Machine) -> Compiled:
    """Read, compile and plan against the facts as they are now; raises LocalError."""
    facts = HostFacts(collect_facts(machine))
    policy, settings = compile_facts(path, config, facts)
    way = _survey(facts, config, machine)
    return Compiled(policy, settings, _guarded(settings, facts, way), facts, way)


def compile_capture(path: Path, config: Config, capture: Path) -> Compiled:
    """The same from a recorded machine, of which the management path is not known: nothing is refused for it."""
    try:
        facts = HostFacts(collect_facts(Captured(capture)))
    except (OSError, UnicodeDecodeError, MachineError) as error:
        raise LocalError(f"{capture}: {error}") from None
    policy, settings = compile_facts(path, config, facts)
    return Compiled(policy, settings, planner.plan(settings, facts), facts, guard.Path())


def compile_facts(path: Path, config: Config, facts: HostFacts) -> tuple[Policy, list[Setting]]:
    """The policy of a file, and the settings it comes to on a host with these facts; raises LocalError."""
    try:
        policy = parse_policy(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(f"{path}: {error}") from None
    except PolicyError as error:
        first, *more = error.problems
        rest = f" (and {len(more)} more)" if more else ""
        raise LocalError(f"{path}:{first.line}:{first.column}: {first.message}{rest}") from None
    if not matches(policy, config.labels, facts):
        raise LocalError(f"{path}: policy {policy.name!r} does not match this host")
    settings = compile_settings([policy], config.labels, facts)
    if not settings:
        raise LocalError(f"{path}: policy {policy.name!r} selects no NIC of this host")
    return policy, settings


def _survey(facts: HostFacts, config: Config, machine: Machine) -> guard.Path:
    try:
        return guard.survey(machine, facts.nics, guard.addresses(config.broker.host, config.broker.port))
    except MachineError as error:
        raise LocalError(f"the management path is not known: {error}") from None


def _guarded(settings: list[Setting], facts: HostFacts, path: guard.Path) -> Plan:
    """The plan without the settings that a transaction would refuse, which are left out with the reason."""
    left_out: list[Skip] = []
    while True:
        made = planner.plan(settings, facts)
        refused = guard.refused(made.changes, settings, path)
        if not refused:
            return Plan(changes=made.changes, skips=[*made.skips, *left_out])
        left_out += [
            Skip(knob=knob, target=_target(nic, facts), reason=reason, nic=nic, status=OutcomeStatus.REFUSED)
            for (knob, nic), reason in refused.items()
        ]
        kept = [setting for setting in settings if (setting.knob, setting.nic) not in refused]
        if len(kept) == len(settings):  # the host's part of what NICs' settings bring along
            changes = [change for change in made.changes if (change.knob, change.nic) not in refused]
            return Plan(changes=changes, skips=[*made.skips, *left_out])
        settings = kept


def _target(nic: str, facts: HostFacts) -> str:
    return facts.nics[nic].ifname if nic in facts.nics else nic or "host"


def document(compiled: Compiled, host_id: str, confirm_s: int) -> Desired:
    """The settings as a document of no generation: what the inventory says stays as it is."""
    settings = compiled.settings
    return Desired(host_id=host_id, generation=0, hash=content_hash(settings), settings=settings, confirm_s=confirm_s)


def apply(desired: Desired, state: Path, keep: Callable[[Reported], bool]) -> Reported:
    """Run the transaction and ask `keep` when it is verified; returns what stands in the end. Raises LocalError."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix="apply-", dir=state) as folder:
        path = Path(folder) / "desired.json"
        statefile.replace(path, encode(desired))
        argv = [sys.executable, "-m", "agent.transaction", "--state", str(state), "--desired", str(path)]
        paths = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
        with (Path(folder) / "err").open("w+b") as errors:
            with subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is ours: we go, it reads the end of its input and reverts
                env={**os.environ, "PYTHONPATH": paths},
            ) as child:
                final = _talk(child, keep)
            return _settled(child.returncode, final, errors)


def ask(question: str, seconds: float) -> bool:
    """A yes typed within the time; anything else, or nothing, is a no."""
    sys.stderr.write(f"{question} [y/N, {seconds:.0f} s] ")
    sys.stderr.flush()
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    if not ready:
        sys.stderr.write("\n")
        return False
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _talk(child: "subprocess.Popen[bytes]", keep: Callable[[Reported], bool]) -> Reported | None:
    final: Reported | None = None
    if child.stdout is None or child.stdin is None:
        return None
    for line in child.stdout:
        said = _REPORTED.decode(line)
        if said["phase"] == "verified":
            word = b"commit\n" if keep(msgspec.convert(said["reported"], Reported)) else b"revert\n"
            try:
                child.stdin.write(word)
                child.stdin.flush()
            except BrokenPipeError:
                continue
        elif said["phase"] == "final":
            final = msgspec.convert(said["reported"], Reported)
    return final


def _settled(code: int, final: Reported | None, errors: IO[bytes]) -> Reported:
    if final is not None and code in (0, NOTHING):
        return final
    errors.seek(0)
    words = errors.read().decode(errors="replace").strip().splitlines()
    reason = words[-1] if words else f"the transaction ended with {code}"
    raise TransactionBusyError(reason) if code == BUSY else LocalError(reason)
