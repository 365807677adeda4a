"""The verbs `bmc HOST power|bootdev|identify|sel|console`."""

import enum
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from hwdb.cli.complete import host_names
from hwdb.cli.output import Format
from hwdb.place import default_url

if TYPE_CHECKING:
    from hwdb.bmc import Door, Way

T = TypeVar("T")


class Power(enum.StrEnum):
    """What `power` takes."""

    STATUS = "status"
    ON = "on"
    OFF = "off"
    CYCLE = "cycle"
    RESET = "reset"
    SOFT = "soft"


class Device(enum.StrEnum):
    """What `bootdev` takes."""

    PXE = "pxe"
    DISK = "disk"
    BIOS = "bios"
    NONE = "none"


class Switch(enum.StrEnum):
    """What `identify` takes."""

    ON = "on"
    OFF = "off"


class Speaks(enum.StrEnum):
    """What the BMC is asked in."""

    IPMI = "ipmi"
    REDFISH = "redfish"


class Tls(enum.StrEnum):
    """How Redfish's certificate is taken."""

    VERIFY = "verify"
    INSECURE = "insecure"
    NONE = "none"


app = typer.Typer(no_args_is_help=True, help="A host's BMC: power, boot device, identify, event log, console.")
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="How rows are written.")]
Db = Annotated[str, typer.Option("--db", envvar="RACKHAND_DB", help="Database URL.", show_default="that of `up`")]
_WARNINGS = {
    Power.ON: "This powers on {}.",
    Power.OFF: "This cuts the power of {}.",
    Power.CYCLE: "This cuts the power of {} and puts it on again.",
    Power.RESET: "This resets {}.",
    Power.SOFT: "This shuts down {}.",
}


class _Asked(msgspec.Struct):
    """What stands before the verb."""

    host: str
    way: "Way"


class SettingLine(msgspec.Struct):
    """What a host's BMC has now."""

    hostname: str
    setting: str
    state: str


@app.callback()
def bmc(  # noqa: PLR0917 - options, by name
    context: typer.Context,
    host: Annotated[str, typer.Argument(help="Host name or id.", autocompletion=host_names)],
    address: Annotated[str, typer.Option("--address", help="Of the BMC; else as the inventory knows it.")] = "",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of the BMC; 0 is the protocol's.")] = 0,
    protocol: Annotated[Speaks, typer.Option("--protocol", help="What it speaks.")] = Speaks.IPMI,
    tls: Annotated[Tls, typer.Option("--tls", help="Redfish: check the certificate or not; or HTTP.")] = Tls.VERIFY,
    secrets: Annotated[
        Path | None,
        typer.Option(
            "--secrets",
            envvar="RACKHAND_SECRETS",
            help="File of credentials.",
            show_default="/etc/rackhand/secrets.toml",
        ),
    ] = None,
    secret: Annotated[str, typer.Option("--secret", help="Name of the credentials; else the host's, else `bmc`.")] = "",
    deadline: Annotated[float, typer.Option("--deadline", min=1, max=600, help="Seconds for a command.")] = 30.0,
) -> None:
    """Name the host, and say how its BMC is reached where that is not what the inventory knows."""
    from hwdb.bmc import DEFAULT_SECRETS, Way  # noqa: PLC0415 - every verb imports what it needs, when it runs

    context.obj = _Asked(
        host,
        Way(
            address=address,
            port=port,
            protocol=protocol.value,
            tls=tls.value,
            secrets=secrets or DEFAULT_SECRETS,
            name=secret,
            deadline_s=deadline,
        ),
    )


@app.command()
def power(context: typer.Context, action: Power, yes: Yes = False, db: Db = "", output: Output = Format.TABLE) -> None:
    """Power state, or a change of it: off and cycle cut the power, soft asks the operating system."""
    door = _door(context, db)
    if action is not Power.STATUS:
        _confirm(_WARNINGS[action].format(door.hostname), yes=yes)
    state = _tell(door, "power", action.value, quiet=action is Power.STATUS)
    _show(door, "power", state, output)


@app.command()
def bootdev(  # noqa: PLR0917 - options, by name
    context: typer.Context,
    device: Device,
    once: Annotated[bool, typer.Option("--once", help="For the next start alone.")] = False,
    efi: Annotated[bool, typer.Option("--efi", help="By UEFI's way.")] = False,
    yes: Yes = False,
    db: Db = "",
    output: Output = Format.TABLE,
) -> None:
    """From what the host starts: by the network, from disk, into its setup; none is as the setup says."""
    door = _door(context, db)
    often = "the next time" if once else "from now on"
    _confirm(f"{door.hostname} will start from {device.value} {often}.", yes=yes)
    wanted = " ".join([device.value, *["once"] * once, *["efi"] * efi])
    _show(door, "bootdev", _tell(door, "bootdev", wanted) or wanted, output)


@app.command()
def identify(context: typer.Context, state: Switch, db: Db = "", output: Output = Format.TABLE) -> None:
    """The chassis' identify LED."""
    door = _door(context, db)
    _show(door, "identify", _tell(door, "identify", state.value) or state.value, output)


@app.command()
def sel(context: typer.Context, db: Db = "", output: Output = Format.TABLE) -> None:
    """The BMC's event log as it is now, oldest first."""
    from hwdb.bmc import tell  # noqa: PLC0415
    from hwdb.cli.events import moment  # noqa: PLC0415
    from hwdb.cli.output import columns, emit  # noqa: PLC0415
    from wire.report import Event  # noqa: PLC0415

    door = _door(context, db)
    answer = _known(lambda: tell(door, "sel"))
    shown = columns(
        Event,
        [
            ("time", lambda event: moment(event.at_ms) if event.at_ms else str(event.data.get("bmc_time", ""))),
            ("severity", lambda event: event.severity.value),
            ("what", lambda event: event.text),
        ],
        [("sensor", lambda event: event.key), ("record", lambda event: event.data.get("record", ""))],
    )
    emit(answer.events, shown, output, empty=f"the event log of {door.hostname}'s BMC is empty")


@app.command()
def console(
    context: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Take it from whoever has it.")] = False,
    db: Db = "",
) -> None:
    """The host's serial console, over the network; Enter ~ . leaves it."""
    from hwdb.bmc import audit  # noqa: PLC0415
    from hwdb.cli.failure import Exit, Failure  # noqa: PLC0415
    from hwdb.cli.terminal import raw  # noqa: PLC0415
    from pollers import ipmi_console  # noqa: PLC0415

    door = _door(context, db)
    if door.target.protocol != "ipmi":
        raise Failure(Exit.BAD_INPUT, "the console is IPMI's: --protocol ipmi")
    _known(lambda: ipmi_console.check(door.target))
    audit(door, "console", "opened")
    print(f"console of {door.hostname}: Enter ~ . leaves it", file=sys.stderr)
    try:
        with raw(sys.stdin):
            _known(
                lambda: ipmi_console.run(door.target, door.secret, sys.stdin.fileno(), sys.stdout.fileno(), force=force)
            )
    finally:
        audit(door, "console", "closed")


def _show(door: "Door", setting: str, state: str, output: Format) -> None:
    from hwdb.cli.output import columns, emit  # noqa: PLC0415

    shown = columns(
        SettingLine,
        [
            ("host", lambda line: line.hostname),
            ("setting", lambda line: line.setting),
            ("state", lambda line: line.state),
        ],
    )
    emit([SettingLine(door.hostname, setting, state)], shown, output)


def _door(context: typer.Context, db: str) -> "Door":
    from hwdb.bmc import open_door  # noqa: PLC0415

    asked: _Asked = context.obj
    return _known(lambda: open_door(db or default_url(), asked.host, asked.way))


def _confirm(question: str, *, yes: bool) -> None:
    from hwdb.cli.ask import confirm  # noqa: PLC0415

    confirm(f"{question} Go on?", yes=yes)


def _tell(door: "Door", verb: str, argument: str, *, quiet: bool = False) -> str:
    """Do it, audited both ways; raises Failure."""
    from hwdb.bmc import audit, tell  # noqa: PLC0415
    from hwdb.cli.failure import Failure  # noqa: PLC0415

    if not quiet:
        audit(door, f"{verb} {argument}", "asked")
    try:
        text = _known(lambda: tell(door, verb, argument)).text
    except Failure as failure:
        if not quiet:
            audit(door, f"{verb} {argument}", f"failed: {failure}", "warning")
        raise
    if not quiet:
        audit(door, f"{verb} {argument}", "done")
    return text


def _known(call: Callable[[], T]) -> T:
    """What it returns; raises Failure with an exit code of its own for what is known to go wrong."""
    from hwdb.bmc import BmcError  # noqa: PLC0415
    from hwdb.cli.failure import Exit, Failure  # noqa: PLC0415
    from pollers.credentials import CredentialsError  # noqa: PLC0415
    from pollers.target import DeviceError  # noqa: PLC0415

    try:
        return call()
    except DeviceError as error:
        raise Failure(Exit.DEVICE, str(error)) from None
    except CredentialsError as error:
        raise Failure(Exit.BAD_INPUT, str(error)) from None
    except BmcError as error:
        raise Failure(Exit.NOT_FOUND, str(error)) from None
