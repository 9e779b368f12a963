"""What a validator cannot do without: Redis and Postgres."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import redis
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

if TYPE_CHECKING:
    from settings import Settings

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30


def wait_for_services(settings: Settings) -> None:
    """Wait for Redis, then ask Postgres once: upstream takes a refusal of Postgres for final.

    Raises:
        redis.ConnectionError: Redis did not answer in time.
        sqlalchemy.exc.SQLAlchemyError: Postgres does not answer, or the address is none.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    client = redis.Redis(host=settings.redis_host, port=settings.redis_port)
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                logger.error("Timeout while waiting for services to be available.")
                raise
            logger.warning("Waiting for services to be available...")
            time.sleep(1)
    logger.info("Connected to Redis.")
    with create_engine(settings.sqlalchemy_database_uri).connect() as connection:
        connection.execute(text("SELECT 1"))
    logger.info("Connected to PostgreSQL.")


class Ports:
    """The ports that were tried, which upstream of 2025-12 keeps for a day.

    Args:
        uri: the address of Postgres for asyncpg; what is none raises at once.
    """

    def __init__(self, uri: str) -> None:
        self._engine = create_async_engine(uri, pool_pre_ping=True)

    async def forget(self) -> None:
        """Remove what is older than a day."""
        statement = "DELETE FROM portmapping WHERE verification_time < now() - interval '24 hours'"
        async with self._engine.begin() as connection:
            await connection.execute(text(statement))
