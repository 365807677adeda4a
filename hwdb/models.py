"""Every table of the inventory. Times are ms since the epoch, UTC; documents are JSON text, as they travelled.

JSON stands in TEXT, not in JSONB: it is decoded by the structs that wrote it, and a NUL escape in it stays harmless.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER PRIMARY KEY counts by itself on SQLite
ZERO = text("0")
OBJECT = "{}"
LIST = "[]"
ROOM = {"fillfactor": 70}  # every report changes these rows: in their page, past the index


def _host() -> Column[str]:
    return Column("host_id", Text, ForeignKey("host.host_id"), nullable=False)


def _key(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=ZERO)


def _ms(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=ZERO)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=false())


host = Table(
    "host",
    metadata,
    _key("host_id"),
    _text("site"),
    _text("hostname"),
    Column("labels", Text, nullable=False, server_default=OBJECT),
    _flag("online"),
    _text("start"),  # of the newest admitted birth
    _text("epoch"),
    _text("boot_id"),
    _text("agent_version"),
    _flag("observe"),
    Column("collectors", Text, nullable=False, server_default=LIST),
    Column("tuners", Text, nullable=False, server_default=LIST),
    Column("fingerprint", Text, nullable=False, server_default=OBJECT),
    _ms("birth_ms"),  # by the host's clock
    _ms("first_ms"),  # by ours
    _ms("last_ms"),  # by ours: the newest message
    _ms("generation"),  # the host says it acted on
    # what follows is derived, so that a list of hosts is one scan
    _text("vendor"),
    _text("product"),
    _text("cpu"),
    _ms("threads"),
    _ms("memory_kb"),
    _count("nics"),  # physical
    _count("findings"),  # open
    _text("severity"),  # the worst of them
    _ms("desired_generation"),
    _text("desired_hash"),
    _ms("reported_generation"),
    _text("reported_status"),
    Index(None, "hostname"),
    postgresql_with=ROOM,
)

host_start = Table(
    "host_start",
    metadata,
    _key("host_id"),
    _key("start"),
    _text("admission"),  # "admitted" | "conflict" | "rejected"; "" before its birth
    Column("online", Boolean),  # what its State said last; NULL when it said nothing
    _ms("at_ms"),
)

identifier = Table(  # what a fingerprint is found by
    "identifier",
    metadata,
    _key("part"),  # "dmi_uuid" | "product_serial" | "board_serial" | "mac"
    _key("value"),
    _key("host_id"),
    Index(None, "host_id"),
)

conflict = Table(
    "conflict",
    metadata,
    Column("id", Id, primary_key=True),
    Column("host_id", Text, nullable=False),
    _text("start"),
    _text("other_id"),  # the host that has this hardware already; "" when it is the same host_id
    _text("reason"),
    _text("site"),
    Column("old", Text, nullable=False, server_default=OBJECT),  # Fingerprint
    Column("birth", Text, nullable=False, server_default=OBJECT),  # Birth, with the new fingerprint
    _text("state"),  # "queued" | "accepted" | "rejected"
    _ms("at_ms"),
    _ms("resolved_ms"),
    UniqueConstraint("host_id", "start"),
    Index(None, "state"),
)

stream = Table(  # one spool of one host
    "stream",
    metadata,
    _key("host_id"),
    _key("epoch"),
    _ms("acked"),  # every seq up to here is in, or will never come
    _text("beyond"),  # what is in above it: "7-9,12"
    _ms("gaps"),  # how many will never come
    postgresql_with=ROOM,
)

collector_state = Table(
    "collector_state",
    metadata,
    _key("host_id"),
    _key("collector"),
    _ms("at_ms"),
    _text("status"),
    _text("reason"),
    Column("duration_ms", Double[float](), nullable=False, server_default=ZERO),
    _text("epoch"),  # with seq: which report wrote at_ms to duration_ms
    _ms("seq"),
    _text("digest"),  # of the facts in `component`
    _text("facts_epoch"),
    _ms("facts_seq"),
    _text("samples_epoch"),
    _ms("samples_seq"),
    _ms("samples_ms"),  # the newest run with all its samples: they are those of this time in `sample`
    _text("moved_ms"),  # the times of the runs since that sent only what moved, oldest first
    postgresql_with=ROOM,
)

component = Table(
    "component",
    metadata,
    Column("host_id", Text, ForeignKey("host.host_id"), primary_key=True),
    _key("kind"),
    _key("key"),
    _text("collector"),
    Column("data", Text, nullable=False),  # the fact as it travelled
    _ms("first_ms"),
    _ms("changed_ms"),
    Column("removed_ms", BigInteger),
    Index(None, "kind", "host_id"),
)

history = Table(
    "history",
    metadata,
    Column("id", Id, primary_key=True),
    _host(),
    _text("kind"),
    _text("key"),
    _ms("at_ms"),
    _text("change"),  # "appeared" | "changed" | "removed"
    _text("path"),  # of the field that changed: "firmware", "rings.rx"
    Column("before", Text),  # JSON
    Column("after", Text),
    Index(None, "host_id", "kind", "key"),
)

event = Table(
    "event",
    metadata,
    Column("id", Id, primary_key=True),
    _host(),
    _ms("at_ms"),
    _text("kind"),
    _text("key"),
    _text("severity"),
    _text("text"),
    Column("data", Text, nullable=False, server_default=OBJECT),
    Index(None, "host_id", "id"),
)

series = Table(
    "series",
    metadata,
    Column("id", Id, primary_key=True),
    _host(),
    Column("metric", Text, nullable=False),
    Column("key", Text, nullable=False),
    UniqueConstraint("host_id", "metric", "key"),
)

sample = Table(  # append-only and without a key: what is new is decided by (host, epoch, seq), before it gets here
    "sample",
    metadata,
    Column("series_id", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("value", Double[float](), nullable=False),
    Index(None, "at_ms", postgresql_using="brin"),
)

unknown_item = Table(
    "unknown_item",
    metadata,
    _key("host_id"),
    _key("collector"),
    _key("kind"),
    _text("raw"),  # the newest
    _text("reason"),
    _ms("seen"),  # how many
    _ms("at_ms"),
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("id", Id, primary_key=True),
    _text("topic"),
    Column("payload", Text, nullable=False),  # the first bytes, what is not UTF-8 escaped
    _count("bytes"),  # of the whole
    _text("reason"),
    _ms("at_ms"),
)

policy = Table(  # a row is never edited: a new version removes the old one
    "policy",
    metadata,
    Column("id", Id, primary_key=True),
    _text("name"),
    _text("text"),  # YAML as given
    _text("hash"),
    _count("priority"),
    _ms("created_ms"),
    Column("removed_ms", BigInteger),
    Index(
        "uq_policy_name_active",
        "name",
        unique=True,
        sqlite_where=text("removed_ms IS NULL"),
        postgresql_where=text("removed_ms IS NULL"),
    ),
)

desired = Table(
    "desired",
    metadata,
    Column("host_id", Text, ForeignKey("host.host_id"), primary_key=True),
    Column("generation", BigInteger, primary_key=True, autoincrement=False),
    _text("hash"),
    Column("document", Text, nullable=False),  # wire.policy.Desired
    _ms("at_ms"),
)

reported = Table(
    "reported",
    metadata,
    Column("host_id", Text, ForeignKey("host.host_id"), primary_key=True),
    _text("start"),
    _ms("generation"),
    _text("hash"),
    _text("status"),
    _ms("at_ms"),
    Column("document", Text, nullable=False),  # wire.policy.Reported
)

finding = Table(
    "finding",
    metadata,
    Column("id", Id, primary_key=True),
    _host(),
    _text("rule"),
    _text("key"),
    _text("target"),
    _text("severity"),
    _text("text"),
    _text("remedy"),
    _ms("opened_ms"),
    Column("closed_ms", BigInteger),
    Index(
        "uq_finding_host_id_rule_key_open",
        "host_id",
        "rule",
        "key",
        unique=True,
        sqlite_where=text("closed_ms IS NULL"),
        postgresql_where=text("closed_ms IS NULL"),
    ),
)

result = Table(
    "result",
    metadata,
    _key("id"),  # of the command
    _key("host_id"),
    _flag("ok"),
    _text("text"),
    _ms("at_ms"),
)

command = Table(  # what people asked for; it stays, with what came of it in `result`
    "command",
    metadata,
    _key("id"),
    _host(),
    _text("verb"),
    Column("args", Text, nullable=False, server_default=OBJECT),
    _text("asked_by"),
    _ms("asked_ms"),
    _ms("sent_ms"),  # 0: it waits, or waited for too long
    Index(None, "sent_ms", "asked_ms"),
)
