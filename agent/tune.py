"""Verbs of `rackhand-agent` that plan, explain, apply and undo a policy on this host, or on a recorded one."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config
from agent.exits import BUSY, FAILED, OK, REVERTED, RULED, STATE, USAGE, CliError, say

if TYPE_CHECKING:
    from agent.local import Compiled
    from machine import Machine
    from wire.policy import Desired, Reported


def _compiled(options: argparse.Namespace, config: Config) -> "Compiled":
    """The policy file of a verb as it comes out here, or on the recorded machine."""
    from agent import local  # noqa: PLC0415
    from machine.live import Live  # noqa: PLC0415

    try:
        if options.verb == "what-if":
            return local.compile_capture(options.file, config, options.capture)
        return local.compile_file(options.file, config, Live())
    except local.LocalError as error:
        raise CliError(str(error), USAGE) from None


def plan(options: argparse.Namespace, config: Config) -> int:
    """What a policy file would change here."""
    from agent import show  # noqa: PLC0415
    from wire.codec import encode  # noqa: PLC0415

    made = _compiled(options, config).plan
    return say(encode(made).decode() if options.output == "json" else show.plan(made))


def tune(options: argparse.Namespace, config: Config) -> int:
    """Every step explained, or done as `apply` does."""
    if not options.explain:
        return apply(options, config)
    from agent import explain  # noqa: PLC0415

    compiled = _compiled(options, config)
    return say(explain.plan(compiled.plan, compiled.facts, compiled.path))


def what_if(options: argparse.Namespace, config: Config) -> int:
    """What a policy file would change on a recorded machine, and how that one would be afterwards."""
    from agent import explain, show  # noqa: PLC0415
    from wire.codec import encode  # noqa: PLC0415

    compiled = _compiled(options, config)
    if options.output == "json":
        return say(encode(compiled.plan).decode())
    made = compiled.plan
    told = explain.plan(made, compiled.facts, compiled.path) if options.explain else show.plan(made)
    return say(f"{told}\n\n{explain.difference(made, compiled.facts)}")


def apply(options: argparse.Namespace, config: Config) -> int:
    """Apply a policy file here; a person, or --yes, is the confirmation."""
    from agent import local, show  # noqa: PLC0415
    from machine.live import Live  # noqa: PLC0415

    _may_change(config)
    if not options.yes and not sys.stdin.isatty():
        raise CliError("not on a terminal: --yes is needed, then what was verified is kept unasked", USAGE)
    compiled = _compiled(options, config)
    say(show.plan(compiled.plan))
    if not compiled.plan.changes:
        return OK
    if not options.yes and not local.ask("apply this?", 600):
        raise CliError("not applied")
    seconds = options.confirm_within or compiled.policy.confirm_within_s
    return _applied(options, config, local.document(compiled, _host_id(config, Live()), seconds))


def _applied(options: argparse.Namespace, config: Config, desired: "Desired") -> int:
    from agent import local, show  # noqa: PLC0415
    from wire.policy import ReportedStatus  # noqa: PLC0415

    def keep(_verified: "Reported") -> bool:
        return options.yes or local.ask("applied and verified. Keep it? Else it is undone", desired.confirm_s - 1)

    try:
        final = local.apply(desired, config.state, keep)
    except local.TransactionBusyError as error:
        raise CliError(str(error), BUSY) from None
    except local.LocalError as error:
        raise CliError(str(error)) from None
    say(show.outcomes(final.outcomes))
    if final.status is ReportedStatus.REVERTED:
        raise CliError(f"undone: {final.reason}", REVERTED)
    if final.status is ReportedStatus.FAILED:
        raise CliError(final.reason or "a setting failed or was refused")
    return OK


def rollback(options: argparse.Namespace, config: Config) -> int:
    """Undo the last transaction."""
    from agent import deadman, journal, show  # noqa: PLC0415
    from agent.documents import Documents, undone  # noqa: PLC0415

    if not options.yes and not sys.stdin.isatty():
        raise CliError("not on a terminal: --yes is needed", USAGE)
    if not options.yes:
        from agent.local import ask  # noqa: PLC0415

        if not ask("undo the last transaction?", 600):
            raise CliError("not undone")
    try:
        played = deadman.rollback(config.state, lambda done: undone(Documents(config.state), done.outcomes, done.tx))
    except journal.BusyError as error:
        raise CliError(str(error), BUSY) from None
    except (journal.JournalError, OSError) as error:
        raise CliError(str(error)) from None
    say(f"transaction {played.tx}: {played.state}\n{show.outcomes(played.outcomes)}")
    return OK if played.state is journal.State.REVERTED else FAILED


def _may_change(config: Config) -> None:
    """A running agent that enforces a document would undo by itself what is changed here."""
    from agent import status  # noqa: PLC0415

    found = status.read(config)
    if found.enforcing:
        raise CliError(
            f"apply: the agent that runs here enforces generation {found.generation} and would change it back;"
            " change the policy in the inventory, or stop the agent",
            RULED,
        )


def _host_id(config: Config, machine: "Machine") -> str:
    from agent import identity  # noqa: PLC0415

    try:
        return identity.load(config.state, identity.read_fingerprint(machine)).host_id
    except identity.IdentityError as error:
        raise CliError(str(error), STATE) from None


def tune_options(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """The arguments of these verbs; `verb` makes the parser of one."""
    verb("plan", "print what a policy file would change here", output=True).add_argument("file", type=Path)
    explain = "every step with why, danger, needs and undo; changes nothing"
    tuned = verb("tune", "apply a policy file here as `apply` does; or explain every step of it")
    tuned.add_argument("--explain", action="store_true", help=explain)
    for applies in (tuned, verb("apply", "apply a policy file here, verify, and keep it when confirmed")):
        applies.add_argument("file", type=Path)
        applies.add_argument("--confirm-within", type=int, metavar="SECONDS", help="default: what the policy says")
        applies.add_argument("--yes", action="store_true", help="ask nothing; keep what was verified")
    asked = verb("what-if", "print what a policy file would change on a recorded machine", output=True)
    asked.add_argument("file", type=Path)
    asked.add_argument("--capture", type=Path, required=True, help="what `rackhand-agent capture` wrote there")
    asked.add_argument("--explain", action="store_true", help=explain)
