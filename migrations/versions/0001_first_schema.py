"""The first schema

Rules: works beside the previous release (add first, remove a release later); no long lock; data survives both ways;
`rackhand db check` is clean afterwards.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    _collector_state()
    _conflict()
    _dead_letter()
    _host()
    _host_start()
    _identifier()
    _policy()
    _result()
    _sample()
    _stream()
    _unknown_item()
    _component()
    _desired()
    _event()
    _finding()
    _history()
    _reported()
    _series()


def _collector_state() -> None:
    op.create_table(
        "collector_state",
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("collector", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("duration_ms", sa.Double[float](), server_default=sa.text("0"), nullable=False),
        sa.Column("epoch", sa.Text(), server_default="", nullable=False),
        sa.Column("seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("digest", sa.Text(), server_default="", nullable=False),
        sa.Column("facts_epoch", sa.Text(), server_default="", nullable=False),
        sa.Column("facts_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("samples_epoch", sa.Text(), server_default="", nullable=False),
        sa.Column("samples_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("samples_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("host_id", "collector", name=op.f("pk_collector_state")),
        postgresql_with={"fillfactor": 70},
    )


def _conflict() -> None:
    op.create_table(
        "conflict",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("start", sa.Text(), server_default="", nullable=False),
        sa.Column("other_id", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("site", sa.Text(), server_default="", nullable=False),
        sa.Column("old", sa.Text(), server_default="{}", nullable=False),
        sa.Column("birth", sa.Text(), server_default="{}", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("at_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("resolved_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conflict")),
        sa.UniqueConstraint("host_id", "start", name=op.f("uq_conflict_host_id_start")),
    )
    op.create_index(op.f("ix_conflict_state"), "conflict", ["state"])


def _dead_letter() -> None:
    op.create_table(
        "dead_letter",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("topic", sa.Text(), server_default="", nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("bytes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("at_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letter")),
    )


def _host() -> None:
    op.create_table(
        "host",
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), server_default="", nullable=False),
        sa.Column("hostname", sa.Text(), server_default="", nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("online", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("start", sa.Text(), server_default="", nullable=False),
        sa.Column("epoch", sa.Text(), server_default="", nullable=False),
        sa.Column("boot_id", sa.Text(), server_default="", nullable=False),
        sa.Column("agent_version", sa.Text(), server_default="", nullable=False),
        sa.Column("observe", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("collectors", sa.Text(), server_default="[]", nullable=False),
        sa.Column("tuners", sa.Text(), server_default="[]", nullable=False),
        sa.Column("fingerprint", sa.Text(), server_default="{}", nullable=False),
        sa.Column("birth_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("generation", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("vendor", sa.Text(), server_default="", nullable=False),
        sa.Column("product", sa.Text(), server_default="", nullable=False),
        sa.Column("cpu", sa.Text(), server_default="", nullable=False),
        sa.Column("threads", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("memory_kb", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("nics", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("findings", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("severity", sa.Text(), server_default="", nullable=False),
        sa.Column("desired_generation", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("desired_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("reported_generation", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reported_status", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("host_id", name=op.f("pk_host")),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(op.f("ix_host_hostname"), "host", ["hostname"])


def _host_start() -> None:
    op.create_table(
        "host_start",
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("start", sa.Text(), nullable=False),
        sa.Column("admission", sa.Text(), server_default="", nullable=False),
        sa.Column("online", sa.Boolean(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("host_id", "start", name=op.f("pk_host_start")),
    )


def _identifier() -> None:
    op.create_table(
        "identifier",
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("part", "value", "host_id", name=op.f("pk_identifier")),
    )
    op.create_index(op.f("ix_identifier_host_id"), "identifier", ["host_id"])


def _policy() -> None:
    op.create_table(
        "policy",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("hash", sa.Text(), server_default="", nullable=False),
        sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("removed_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy")),
    )
    op.create_index(
        "uq_policy_name_active",
        "policy",
        ["name"],
        unique=True,
        sqlite_where=sa.text("removed_ms IS NULL"),
        postgresql_where=sa.text("removed_ms IS NULL"),
    )


def _result() -> None:
    op.create_table(
        "result",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("ok", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("at_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", "host_id", name=op.f("pk_result")),
    )


def _sample() -> None:
    op.create_table(
        "sample",
        sa.Column("series_id", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double[float](), nullable=False),
    )
    op.create_index(op.f("ix_sample_at_ms"), "sample", ["at_ms"], postgresql_using="brin")


def _stream() -> None:
    op.create_table(
        "stream",
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("acked", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("beyond", sa.Text(), server_default="", nullable=False),
        sa.Column("gaps", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("host_id", "epoch", name=op.f("pk_stream")),
        postgresql_with={"fillfactor": 70},
    )


def _unknown_item() -> None:
    op.create_table(
        "unknown_item",
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("collector", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("seen", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("host_id", "collector", "kind", name=op.f("pk_unknown_item")),
    )


def _component() -> None:
    op.create_table(
        "component",
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("collector", sa.Text(), server_default="", nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("removed_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_component_host_id_host")),
        sa.PrimaryKeyConstraint("host_id", "kind", "key", name=op.f("pk_component")),
    )
    op.create_index(op.f("ix_component_kind_host_id"), "component", ["kind", "host_id"])


def _desired() -> None:
    op.create_table(
        "desired",
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.Text(), server_default="", nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_desired_host_id_host")),
        sa.PrimaryKeyConstraint("host_id", "generation", name=op.f("pk_desired")),
    )


def _event() -> None:
    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("key", sa.Text(), server_default="", nullable=False),
        sa.Column("severity", sa.Text(), server_default="", nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("data", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_event_host_id_host")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_index(op.f("ix_event_host_id_id"), "event", ["host_id", "id"])


def _finding() -> None:
    op.create_table(
        "finding",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), server_default="", nullable=False),
        sa.Column("key", sa.Text(), server_default="", nullable=False),
        sa.Column("target", sa.Text(), server_default="", nullable=False),
        sa.Column("severity", sa.Text(), server_default="", nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("remedy", sa.Text(), server_default="", nullable=False),
        sa.Column("opened_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("closed_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_finding_host_id_host")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_finding")),
    )
    op.create_index(
        "uq_finding_host_id_rule_key_open",
        "finding",
        ["host_id", "rule", "key"],
        unique=True,
        sqlite_where=sa.text("closed_ms IS NULL"),
        postgresql_where=sa.text("closed_ms IS NULL"),
    )


def _history() -> None:
    op.create_table(
        "history",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("key", sa.Text(), server_default="", nullable=False),
        sa.Column("at_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("change", sa.Text(), server_default="", nullable=False),
        sa.Column("path", sa.Text(), server_default="", nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_history_host_id_host")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_history")),
    )
    op.create_index(op.f("ix_history_host_id_kind_key"), "history", ["host_id", "kind", "key"])


def _reported() -> None:
    op.create_table(
        "reported",
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("start", sa.Text(), server_default="", nullable=False),
        sa.Column("generation", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("hash", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("at_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_reported_host_id_host")),
        sa.PrimaryKeyConstraint("host_id", name=op.f("pk_reported")),
    )


def _series() -> None:
    op.create_table(
        "series",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_series_host_id_host")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("host_id", "metric", "key", name=op.f("uq_series_host_id_metric_key")),
    )


def downgrade() -> None:
    """Back."""
    for table in (
        "series",
        "reported",
        "history",
        "finding",
        "event",
        "desired",
        "component",
        "unknown_item",
        "stream",
        "sample",
        "result",
        "policy",
        "identifier",
        "host_start",
        "host",
        "dead_letter",
        "conflict",
        "collector_state",
    ):
        op.drop_table(table)
