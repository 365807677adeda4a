"""`rackhand-agent`: run the agent, or look, plan, apply and undo on this host without the inventory."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import VERSION
from agent.config import Config, ConfigError, load, parse_labels
from agent.events.options import events_options

if TYPE_CHECKING:
    from wire.policy import Reported

OK, FAILED, USAGE, BUSY, RULED, REVERTED, STATE = 0, 1, 2, 4, 5, 6, 7


class CliError(Exception):
    """A verb could not be done: one line, and the exit code."""

    def __init__(self, text: str, code: int = FAILED) -> None:
        super().__init__(text)
        self.code = code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code and prints at most one line on stderr for an error."""
    options = _parser().parse_args(argv)
    try:
        return VERBS[options.verb](options, load(options.config, flags=_flags(options)))
    except ConfigError as error:
        return _complain(str(error), USAGE)
    except CliError as error:
        return _complain(str(error), error.code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return OK
    except KeyboardInterrupt:
        return _complain("interrupted", FAILED)


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"rackhand-agent: {text}\n")
    return code


# -- the verbs ---------------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace, config: Config) -> int:
    from agent import slim  # noqa: PLC0415

    slim.keep_out(tls=bool(config.broker.tls_ca))
    from agent.identity import IdentityError  # noqa: PLC0415
    from agent.resident import BusyError, Resident  # noqa: PLC0415
    from agent.spool import SpoolError  # noqa: PLC0415
    from machine.live import Live  # noqa: PLC0415

    level = logging.DEBUG if options.verbose else logging.INFO
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        Resident(config, Live()).run()
    except BusyError as error:
        raise CliError(str(error), BUSY) from None
    except (IdentityError, SpoolError, OSError) as error:
        raise CliError(str(error), STATE) from None
    return OK


def _once(options: argparse.Namespace, _config: Config) -> int:
    import msgspec  # noqa: PLC0415

    from agent import show  # noqa: PLC0415
    from collectors.registry import ALL  # noqa: PLC0415
    from collectors.run import run  # noqa: PLC0415
    from machine.live import Live  # noqa: PLC0415
    from tuners.findings import findings  # noqa: PLC0415
    from tuners.hostfacts import HostFacts  # noqa: PLC0415
    from wire.report import Status  # noqa: PLC0415

    results = {c.NAME: run(c, Live(), time.time_ns() // 1_000_000) for c in ALL}
    facts = HostFacts(fact for result in results.values() for fact in result.facts)
    samples = [sample for result in results.values() for sample in result.samples]
    found = findings(facts, {(sample.metric, sample.key): sample.value for sample in samples})
    if options.output == "json":
        runs = {name: {"status": one.status, "reason": one.reason} for name, one in results.items()}
        whole = {"collectors": runs, "facts": facts.all(), "samples": samples, "findings": found}
        return _print(msgspec.json.encode(whole).decode())
    failed = [f"collector {name} failed: {one.reason}" for name, one in results.items() if one.status is Status.FAILED]
    return _print("\n".join([show.host(facts, found), *failed]))


def _plan(options: argparse.Namespace, config: Config) -> int:
    from agent import local, show  # noqa: PLC0415
    from machine.live import Live  # noqa: PLC0415
    from wire.codec import encode  # noqa: PLC0415

    try:
        compiled = local.compile_file(options.file, config, Live())
    except local.LocalError as error:
        raise CliError(str(error), USAGE) from None
    return _print(encode(compiled.plan).decode() if options.output == "json" else show.plan(compiled.plan))


def _apply(options: argparse.Namespace, config: Config) -> int:
    from agent import local, show  # noqa: PLC0415
    from machine.live import Live  # noqa: PLC0415

    _may_change(config)
    if not options.yes and not sys.stdin.isatty():
        raise CliError("not on a terminal: --yes is needed, then what was verified is kept unasked", USAGE)
    machine = Live()
    try:
        compiled = local.compile_file(options.file, config, machine)
    except local.LocalError as error:
        raise CliError(str(error), USAGE) from None
    _print(show.plan(compiled.plan))
    if not compiled.plan.changes:
        return OK
    if not options.yes and not local.ask("apply this?", 600):
        raise CliError("not applied")
    seconds = options.confirm_within or compiled.policy.confirm_within_s
    return _applied(options, config, local.document(compiled, _host_id(config, machine), seconds))


def _applied(options: argparse.Namespace, config: Config, desired: Any) -> int:
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
    _print(show.outcomes(final.outcomes))
    if final.status is ReportedStatus.REVERTED:
        raise CliError(f"undone: {final.reason}", REVERTED)
    if final.status is ReportedStatus.FAILED:
        raise CliError(final.reason or "a setting failed or was refused")
    return OK


def _rollback(options: argparse.Namespace, config: Config) -> int:
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
    _print(f"transaction {played.tx}: {played.state}\n{show.outcomes(played.outcomes)}")
    return OK if played.state is journal.State.REVERTED else FAILED


def _status(options: argparse.Namespace, config: Config) -> int:
    import msgspec  # noqa: PLC0415

    from agent import status  # noqa: PLC0415

    found = status.read(config)
    if options.output == "json":
        return _print(msgspec.json.encode(found).decode())
    return _print(status.text(found))


def _capture(options: argparse.Namespace, _config: Config) -> int:
    from agent import identity  # noqa: PLC0415
    from collectors.run import collect_facts  # noqa: PLC0415
    from machine.capture import Recording  # noqa: PLC0415
    from machine.live import Live  # noqa: PLC0415

    recording = Recording(Live())
    if options.listen > 0:
        collect_facts(recording, ["lldp"])  # from now on it hears neighbours
        time.sleep(options.listen)
    collect_facts(recording)
    identity.read_fingerprint(recording)
    text = recording.dump(redact=not options.no_redact)
    if options.file is None:
        return _print(text)
    try:
        options.file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(str(error)) from None
    sys.stderr.write(f"wrote {options.file}, {len(text)} bytes; read it before you share it\n")
    return OK


def _doctor(options: argparse.Namespace, config: Config) -> int:
    import msgspec  # noqa: PLC0415

    from agent import doctor, show  # noqa: PLC0415
    from machine.live import Live  # noqa: PLC0415

    checks = list(doctor.examine(config, Live()))
    if options.output == "json":
        _print(msgspec.json.encode([check._asdict() for check in checks]).decode())
    else:
        rows = [(*check[:3], check.remedy if check.verdict is not doctor.Verdict.OK else "") for check in checks]
        _print(show.table(("CHECK", "VERDICT", "WHAT", "REMEDY"), rows))
    return OK if doctor.ok(checks) else FAILED


def _diagnose(options: argparse.Namespace, config: Config) -> int:
    from agent import diagnose, local  # noqa: PLC0415

    words = {"nic": options.nic, "test": options.test, "seconds": options.seconds, "offline": options.offline}
    try:
        request = diagnose.parse({name: str(word) for name, word in words.items()})
    except diagnose.DiagnoseError as error:
        raise CliError(str(error), USAGE) from None
    if diagnose.disturbs(request) and not options.yes:
        if not sys.stdin.isatty():
            raise CliError("not on a terminal: --yes is needed, as this disturbs traffic", USAGE)
        if not local.ask(f"the link of {request.nic} goes down for it. Go on?", 600):
            raise CliError("not done")
    peers = [f"{config.broker.host}:{config.broker.port}"]
    child = diagnose.Child(diagnose.Task(request=request, observe=config.observe, peers=peers))
    try:
        result = child.wait()
    finally:
        child.stop()
    if result.ok:
        return _print(result.text)
    first, *more = result.text.splitlines() or [""]
    if more:
        _print("\n".join(more))
    raise CliError(first)


def _events(options: argparse.Namespace, config: Config) -> int:
    from agent.events import verb  # noqa: PLC0415

    try:
        fine = verb.run(options, config)
    except verb.VerbError as error:
        raise CliError(str(error), USAGE) from None
    return OK if fine else FAILED


def _optics(options: argparse.Namespace, _config: Config) -> int:
    from agent import optics  # noqa: PLC0415

    try:
        return _print(optics.shown(options.dump, options.layout, as_json=options.output == "json"))
    except optics.DumpError as error:
        raise CliError(str(error)) from None


VERBS: dict[str, Callable[[argparse.Namespace, Config], int]] = {
    "run": _run,
    "once": _once,
    "plan": _plan,
    "apply": _apply,
    "rollback": _rollback,
    "status": _status,
    "capture": _capture,
    "doctor": _doctor,
    "optics": _optics,
    "diagnose": _diagnose,
    "events": _events,
}


# -- what verbs share --------------------------------------------------------------------------------------------------


def _print(text: str) -> int:
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()
    return OK


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


def _host_id(config: Config, machine: Any) -> str:
    from agent import identity  # noqa: PLC0415

    try:
        return identity.load(config.state, identity.read_fingerprint(machine)).host_id
    except identity.IdentityError as error:
        raise CliError(str(error), STATE) from None


def _flags(options: argparse.Namespace) -> dict[str, Any]:
    """What was given on the command line, in the configuration's shape."""
    flags: dict[str, Any] = {}
    if options.broker:
        host, colon, port = options.broker.rpartition(":")
        flags["broker"] = {"host": host.strip("[]"), "port": port} if colon else {"host": port}
    if options.label:
        flags["labels"] = parse_labels(",".join(options.label))
    given = {"site": options.site, "state_dir": options.state, "observe": options.observe}
    return {**flags, **{name: value for name, value in given.items() if value is not None}}


def _shared() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", type=Path, metavar="FILE", help="default: /etc/rackhand/agent.toml, if it is there")
    shared.add_argument("--broker", metavar="HOST[:PORT]", help="MQTT broker")
    shared.add_argument("--site", help="second segment of every topic")
    shared.add_argument("--state", metavar="DIR", help="state directory")
    shared.add_argument("--label", action="append", metavar="NAME=VALUE", help="may be repeated")
    shared.add_argument("--observe", action=argparse.BooleanOptionalAction, default=None, help="never change anything")
    return shared


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rackhand-agent", description=__doc__)
    parser.add_argument("--version", action="version", version=f"rackhand-agent {VERSION}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    shared = _shared()

    def verb(name: str, text: str, *, output: bool = False) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text, parents=[shared])
        if output:
            made.add_argument("-o", "--output", choices=("text", "json"), default="text")
        return made

    verb("run", "stay, report, and apply what the inventory wants").add_argument("-v", "--verbose", action="store_true")
    verb("once", "collect once and print; needs no broker", output=True)
    verb("plan", "print what a policy file would change here", output=True).add_argument("file", type=Path)
    apply = verb("apply", "apply a policy file here, verify, and keep it when confirmed")
    apply.add_argument("file", type=Path)
    apply.add_argument("--confirm-within", type=int, metavar="SECONDS", help="default: what the policy says")
    apply.add_argument("--yes", action="store_true", help="ask nothing; keep what was verified")
    verb("rollback", "undo the last transaction").add_argument("--yes", action="store_true", help="ask nothing")
    verb("status", "identity, spool, what is desired and what was reported", output=True)
    capture = verb("capture", "record what the collectors read here into one text file")
    capture.add_argument("-o", "--output", dest="file", type=Path, metavar="FILE", help="default: standard output")
    listen = "wait for LLDP neighbours first, most of which speak every 30 s"
    capture.add_argument("--listen", type=float, default=0.0, metavar="SECONDS", help=listen)
    capture.add_argument("--no-redact", action="store_true", help="keep serial numbers, MACs, names and addresses")
    verb("doctor", "can the agent read, write and reach the broker here", output=True)
    optics = verb("optics", "decode a dump of a transceiver's EEPROM, with no hardware", output=True)
    optics.add_argument("action", choices=("decode",))
    optics.add_argument("dump", type=Path, metavar="DUMP", help="raw bytes, or what `ethtool -m IF hex on` prints")
    optics.add_argument("--layout", type=Path, metavar="FILE.json", help="where which bytes lie; default: DUMP's .json")
    events_options(verb("events", "what happens here: live, simulated, or replayed", output=True))
    _diagnose_arguments(verb("diagnose", "let a NIC blink, test itself or its cable, or show its module's memory"))
    return parser


def _diagnose_arguments(diagnose: argparse.ArgumentParser) -> None:
    diagnose.add_argument("nic", metavar="IFNAME", help="name of the interface, or its key")
    diagnose.add_argument("test", choices=("identify", "cable-test", "self-test", "module"))
    diagnose.add_argument("--seconds", type=int, default=10, help="to blink for, 1 to 60; default: 10")
    diagnose.add_argument("--offline", action="store_true", help="self-test: the whole of it, with the link down")
    diagnose.add_argument("--yes", action="store_true", help="ask nothing")


if __name__ == "__main__":
    sys.exit(main())
