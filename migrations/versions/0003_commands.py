"""What people asked hosts to do, and when it was sent

Rules: works beside the previous release (add first, remove a release later); no long lock; data survives both ways;
`rackhand db check` is clean afterwards.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "command",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("verb", sa.Text(), server_default="", nullable=False),
        sa.Column("args", sa.Text(), server_default="{}", nullable=False),
        sa.Column("asked_by", sa.Text(), server_default="", nullable=False),
        sa.Column("asked_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("sent_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_command_host_id_host")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_command")),
    )
    op.create_index(op.f("ix_command_sent_ms_asked_ms"), "command", ["sent_ms", "asked_ms"])


def downgrade() -> None:
    """Back: what was asked is forgotten; what came of it stays."""
    op.drop_index(op.f("ix_command_sent_ms_asked_ms"), table_name="command")
    op.drop_table("command")
