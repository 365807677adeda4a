"""Runs that send only the samples that moved

Rules: works beside the previous release (add first, remove a release later); no long lock; data survives both ways;
`rackhand db check` is clean afterwards.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column("collector_state", sa.Column("moved_ms", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    """Back: until the next whole run the newest values are those of the last one."""
    op.drop_column("collector_state", "moved_ms")
