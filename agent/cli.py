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
from agent.exits import BUSY, FAILED, OK, STATE, USAGE, CliError, say
from agent.tune import apply, plan, rollback, tune, tune_options, what_if

if TYPE_CHECKING:
    pass


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
        return say(msgspec.json.encode(whole).decode())
    failed = [f"collector {name} failed: {one.reason}" for name, one in results.items() if one.status is Status.FAILED]
    return say("\n".join([show.host(facts, found), *failed]))


def _status(options: argparse.Namespace, config: Config) -> int:
    import msgspec  # noqa: PLC0415

    from agent import status  # noqa: PLC0415

    found = status.read(config)
    if options.output == "json":
        return say(msgspec.json.encode(found).decode())
    return say(status.text(found))


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
        return say(text)
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
        say(msgspec.json.encode([check._asdict() for check in checks]).decode())
    else:
        rows = [(*check[:3], check.remedy if check.verdict is not doctor.Verdict.OK else "") for check in checks]
        say(show.table(("CHECK", "VERDICT", "WHAT", "REMEDY"), rows))
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
        return say(result.text)
    first, *more = result.text.splitlines() or [""]
    if more:
        say("\n".join(more))
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
        return say(optics.shown(options.dump, options.layout, as_json=options.output == "json"))
    except optics.DumpError as error:
        raise CliError(str(error)) from None


VERBS: dict[str, Callable[[argparse.Namespace, Config], int]] = {
    "run": _run,
    "once": _once,
    "plan": plan,
    "tune": tune,
    "what-if": what_if,
    "apply": apply,
    "rollback": rollback,
    "status": _status,
    "capture": _capture,
    "doctor": _doctor,
    "optics": _optics,
    "diagnose": _diagnose,
    "events": _events,
}


# -- what verbs share --------------------------------------------------------------------------------------------------


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
    tune_options(verb)
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
