"""The verbs with their arguments: one thin function each, which imports what it needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from hwdb.broker import Kind as BrokerKind
from hwdb.cli import bmc
from hwdb.cli.complete import host_names, policy_names
from hwdb.cli.output import Format
from hwdb.place import default_state, default_url
from hwdb.retention import Days
from hwdb.store_command import Diagnosis

app = typer.Typer(name="rackhand", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
policies = typer.Typer(no_args_is_help=True, help="What people want of hosts: check, preview, apply, follow.")
conflicts = typer.Typer(no_args_is_help=True, help="Machines that claim to be the same host.")
database = typer.Typer(no_args_is_help=True, help="The inventory's schema.")
app.add_typer(policies, name="policy")
app.add_typer(conflicts, name="conflicts")
app.add_typer(database, name="db")
app.add_typer(bmc.app, name="bmc")

Output = Annotated[Format, typer.Option("--output", "-o", help="How rows are written.")]
Db = Annotated[str, typer.Option("--db", envvar="RACKHAND_DB", help="Database URL.", show_default="that of `up`")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Host = Annotated[str, typer.Argument(help="Host name or id (or its unique beginning).", autocompletion=host_names)]
SomeHost = Annotated[str, typer.Option("--host", help="Only of this host.", autocompletion=host_names)]
Name = Annotated[str, typer.Argument(help="Name of a policy.", autocompletion=policy_names)]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", "-w", help="Condition such as driver=ice or speed_mbps>=25000; all must hold."),
]

WhereCable = Annotated[
    list[str] | None,
    typer.Option("--where", "-w", help="Condition such as verdict=crossed or peer=sw1*; all must hold."),
]

KEEP = Days()
SamplesDays = Annotated[
    int, typer.Option("--samples-days", min=0, max=36_500, help="How long samples are kept; 0: for ever.")
]
EventsDays = Annotated[
    int, typer.Option("--events-days", min=0, max=36_500, help="How long events are kept; 0: for ever.")
]


@app.command()
def up(  # noqa: PLR0917 - options, by name
    once: Annotated[bool, typer.Option("--once", help="Print the screen and end.")] = False,
    state: Annotated[Path | None, typer.Option("--state", help="Folder of database, broker and agent.")] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of the broker; 0 takes a free one.")] = 0,
    api_port: Annotated[int, typer.Option("--api-port", min=0, max=65535, help="Of the API; 0 takes a free one.")] = 0,
    agent: Annotated[bool, typer.Option("--agent/--no-agent", help="Run the agent of this host.")] = True,
    enforce: Annotated[bool, typer.Option("--enforce", help="Let the agent do what policies say.")] = False,
    broker: Annotated[BrokerKind, typer.Option("--broker", help="Which broker to run.")] = BrokerKind.AUTO,
    samples_days: SamplesDays = KEEP.samples,
    events_days: EventsDays = KEEP.events,
    db: Db = "",
    output: Output = Format.TABLE,
) -> None:
    """Run broker, inventory, API and the agent of this host; print what this host is and what is wrong with it."""
    from hwdb.up import Options, run  # noqa: PLC0415 - every verb imports what it needs, when it runs

    folder = state or default_state()
    url = db or default_url(folder)
    keep = Days(samples_days, events_days)
    run(Options(folder, url, port, api_port, once, agent, enforce, output, broker, keep))


@app.command()
def hosts(where: Where = None, db: Db = "", output: Output = Format.TABLE) -> None:
    """All hosts: name, state, hardware, open findings, policy."""
    from hwdb.cli import hosts as verb  # noqa: PLC0415

    verb.hosts(db or default_url(), where or [], output)


@app.command()
def host(host: Host, db: Db = "", output: Output = Format.TABLE) -> None:
    """One host: what it is, its NICs, its findings, its policy."""
    from hwdb.cli import hosts as verb  # noqa: PLC0415

    verb.host(db or default_url(), host, output)


@app.command()
def nics(where: Where = None, db: Db = "", output: Output = Format.TABLE) -> None:
    """Physical NICs of all hosts; with conditions, every NIC that fits them."""
    from hwdb.cli import hosts as verb  # noqa: PLC0415

    verb.nics(db or default_url(), where or [], output)


@app.command()
def irqs(host: Host, db: Db = "", output: Output = Format.TABLE) -> None:
    """Interrupts of a host's NICs: which queue they serve and on which CPUs."""
    from hwdb.cli import hosts as verb  # noqa: PLC0415

    verb.irqs(db or default_url(), host, output)


@app.command()
def cables(host: SomeHost = "", where: WhereCable = None, db: Db = "", output: Output = Format.TABLE) -> None:
    """Every cable by what LLDP says at its two ends: agree, one-sided, crossed, changed, blocked."""
    from hwdb.cli import cables as verb  # noqa: PLC0415

    verb.cables(db or default_url(), host, where or [], output)


@app.command()
def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until Ctrl-C.")] = False,
    host: SomeHost = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many of the newest.")] = 100,
    db: Db = "",
    output: Output = Format.TABLE,
) -> None:
    """What happened, oldest first."""
    from hwdb.cli import events as verb  # noqa: PLC0415

    verb.events(db or default_url(), host, limit, follow=follow, form=output)


@app.command()
def findings(host: SomeHost = "", db: Db = "", output: Output = Format.TABLE) -> None:
    """What is wrong, worst first, each with its remedy."""
    from hwdb.cli import events as verb  # noqa: PLC0415

    verb.findings(db or default_url(), host, output)


@app.command()
def diagnose(  # noqa: PLR0917 - options, by name
    host: Host,
    nic: Annotated[str, typer.Argument(help="Name, MAC or PCI address of a physical NIC.")],
    test: Annotated[Diagnosis, typer.Argument(help="What it is asked for.")],
    seconds: Annotated[int, typer.Option("--seconds", min=1, max=60, help="identify: to blink for.")] = 10,
    offline: Annotated[bool, typer.Option("--offline", help="self-test: the whole of it, link down.")] = False,
    yes: Yes = False,
    db: Db = "",
    output: Output = Format.TABLE,
) -> None:
    """Let a NIC of a host blink, test itself or its cable, or show its module's memory."""
    from hwdb.cli import diagnose as verb  # noqa: PLC0415

    verb.diagnose(db or default_url(), host, nic, test, output, seconds=seconds, offline=offline, yes=yes)


@policies.command("lint")
def policy_lint(file: Path, output: Output = Format.TABLE) -> None:
    """Check a policy file; what is wrong with it, by line and column."""
    from hwdb.cli import policy as verb  # noqa: PLC0415

    verb.lint(file, output)


@policies.command("plan")
def policy_plan(
    source: Annotated[str, typer.Argument(help="File, or name of a stored policy.", autocompletion=policy_names)],
    host: SomeHost = "",
    db: Db = "",
    output: Output = Format.TABLE,
) -> None:
    """What would change on every matching host, from the inventory alone."""
    from hwdb.cli import policy as verb  # noqa: PLC0415

    verb.plan(db or default_url(), source, host, output)


@policies.command("apply")
def policy_apply(file: Path, yes: Yes = False, db: Db = "", output: Output = Format.TABLE) -> None:
    """Store a policy, in the place of one of the same name, and give every host its new document."""
    from hwdb.cli import policy as verb  # noqa: PLC0415

    verb.apply(db or default_url(), file, output, yes=yes)


@policies.command("show")
def policy_show(
    name: Annotated[str, typer.Argument(help="Name of a policy.", autocompletion=policy_names)] = "",
    db: Db = "",
    output: Output = Format.TABLE,
) -> None:
    """The policies, or what came of one on every host: applied, drifted, failed, reverted, pending, and why."""
    from hwdb.cli import policy as verb  # noqa: PLC0415

    verb.show(db or default_url(), name, output)


@policies.command("rm")
def policy_rm(name: Name, yes: Yes = False, db: Db = "", output: Output = Format.TABLE) -> None:
    """Remove a policy; hosts keep what was applied, and nobody enforces it any more."""
    from hwdb.cli import policy as verb  # noqa: PLC0415

    verb.remove(db or default_url(), name, output, yes=yes)


@conflicts.command("list")
def conflicts_list(db: Db = "", output: Output = Format.TABLE) -> None:
    """Machines whose reports wait, because they claim to be a host that looks different."""
    from hwdb.cli import conflicts as verb  # noqa: PLC0415

    verb.listing(db or default_url(), output)


Number = Annotated[int, typer.Argument(help="Number of the conflict, from the list.")]


@conflicts.command("accept")
def conflicts_accept(number: Number, yes: Yes = False, db: Db = "", output: Output = Format.TABLE) -> None:
    """It is the same host, with changed hardware: take its reports from now on."""
    from hwdb.cli import conflicts as verb  # noqa: PLC0415

    verb.resolve(db or default_url(), number, output, accept=True, yes=yes)


@conflicts.command("reject")
def conflicts_reject(number: Number, yes: Yes = False, db: Db = "", output: Output = Format.TABLE) -> None:
    """It is a clone: what it reports stays out."""
    from hwdb.cli import conflicts as verb  # noqa: PLC0415

    verb.resolve(db or default_url(), number, output, accept=False, yes=yes)


@database.command("upgrade")
def db_upgrade(db: Db = "", output: Output = Format.TABLE) -> None:
    """Make the schema, or bring it to this release's."""
    from hwdb.cli import database as verb  # noqa: PLC0415

    verb.upgrade(db or default_url(), output)


@database.command("check")
def db_check(db: Db = "", output: Output = Format.TABLE) -> None:
    """Say whether the schema is this release's; what differs, one line each."""
    from hwdb.cli import database as verb  # noqa: PLC0415

    verb.check(db or default_url(), output)


@database.command("prune")
def db_prune(
    samples_days: SamplesDays = KEEP.samples,
    events_days: EventsDays = KEEP.events,
    yes: Yes = False,
    db: Db = "",
    output: Output = Format.TABLE,
) -> None:
    """Delete samples, events and dead letters that are older than that; `up` does so by itself."""
    from hwdb.cli import database as verb  # noqa: PLC0415

    verb.prune(db or default_url(), Days(samples_days, events_days), output, yes=yes)
