"""Brings the miner's database to the newest schema, as ``alembic upgrade head`` does upstream: stderr only."""

from __future__ import annotations

import logging
import sys

from settings import Settings
from store import Store, UnknownRevisionError, migrate

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger("migrate")


def main() -> int:
    """Return 0, or alembic's 255 when the database belongs to a version that we do not know."""
    with Store(Settings().sqlalchemy_database_uri).engine.begin() as connection:
        try:
            applied = migrate(connection)
        except UnknownRevisionError as error:
            logger.error("FAILED: %s", error)
            return 255
    logger.info("schema is current; applied: %s", ", ".join(applied) or "nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
