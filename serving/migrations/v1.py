"""Version 1: the first tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("allowed_experts", sa.JSON),
        sa.Column("denied_experts", sa.JSON, nullable=False),
        sa.Column("requests_per_minute", sa.Double),
        sa.Column("tokens_per_minute", sa.Double),
        sa.Column("budget_nano", sa.BigInteger),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("defaults", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
    )
    _owned(
        "spend",
        "day",
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("usd_nano", sa.BigInteger, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
    )
    _owned(
        "holds",
        "id",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("usd_nano", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    _owned(
        "feedback",
        "request_id",
        sa.Column("request_id", sa.String(200), nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("comment", sa.Text),
        sa.Column("at", sa.Double, nullable=False),
    )
    _owned(
        "traces",
        "request_id",
        sa.Column("request_id", sa.String(200), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("text", sa.Boolean, nullable=False),
    )
    op.create_index("ix_traces_at", "traces", ["at"])
    _owned(
        "files",
        "id",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("purpose", sa.String(200), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_files_created_at", "files", ["created_at"])
    _owned(
        "batches",
        "id",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("input_file_id", sa.String(200), nullable=False),
        sa.Column("completion_window", sa.String(20), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("output_file_id", sa.String(200)),
        sa.Column("error_file_id", sa.String(200)),
        sa.Column("in_progress_at", sa.BigInteger),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("finalizing_at", sa.BigInteger),
        sa.Column("completed_at", sa.BigInteger),
        sa.Column("failed_at", sa.BigInteger),
        sa.Column("expired_at", sa.BigInteger),
        sa.Column("cancelling_at", sa.BigInteger),
        sa.Column("cancelled_at", sa.BigInteger),
        sa.Column("request_counts", sa.JSON, nullable=False),
        sa.Column("errors", sa.JSON),
        sa.Column("metadata", sa.JSON),
    )
    _owned(
        "conversations",
        "id",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("messages", sa.JSON, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
    )


def _owned(table: str, id: str, *columns: sa.Column[Any]) -> None:
    """Make a table of rows that belong to keys."""
    op.create_table(
        table,
        sa.Column("owner", sa.String(64), nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("owner", id, name=f"pk_{table}"),
        sa.ForeignKeyConstraint(["owner"], ["keys.id"], name=f"fk_{table}_owner"),
    )
