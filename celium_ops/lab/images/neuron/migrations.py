"""A database brought to the newest schema, as ``alembic upgrade head`` does upstream: it speaks on stderr only."""

from __future__ import annotations

import logging

from sqlalchemy import create_engine, text

logger = logging.getLogger("migrate")

Migrations = tuple[tuple[str, tuple[str, ...]], ...]
"""Revisions, oldest first, each with its SQL statements."""


def upgrade(uri: str, migrations: Migrations) -> int:
    """Apply what is missing; return 0, or alembic's 255 when the database belongs to a version that we do not know.

    Args:
        uri: an SQLAlchemy database URI.
        migrations: our revisions; a database at another one is left alone.
    """
    logging.basicConfig(level=logging.INFO)
    with create_engine(uri).begin() as connection:
        # Two programs may start at once on an empty database.
        connection.execute(text("SELECT pg_advisory_xact_lock(51)"))
        connection.execute(
            text(
                "CREATE TABLE IF NOT EXISTS alembic_version"
                " (version_num varchar(32) NOT NULL CONSTRAINT alembic_version_pkc PRIMARY KEY)"
            )
        )
        current = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        known = [revision for revision, _ in migrations]
        if current is not None and current not in known:
            logger.error("FAILED: Can't locate revision identified by '%s'", current)
            return 255
        pending = migrations[known.index(current) + 1 if current else 0 :]
        for revision, statements in pending:
            for statement in statements:
                connection.execute(text(statement))
            connection.execute(text("DELETE FROM alembic_version"))
            connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})
    logger.info("schema is current; applied: %s", ", ".join(revision for revision, _ in pending) or "nothing")
    return 0
