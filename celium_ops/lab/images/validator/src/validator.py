"""Stands in for the validator: upstream's start, API, log markers, and what it keeps in Redis; no chain behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from redis.asyncio import Redis, RedisError
from services import Ports, wait_for_services
from settings import load
from sqlalchemy.exc import SQLAlchemyError
from standin import DIALECT, announce
from wallet import imitate_sdk_import, open_hotkey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from settings import Settings

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger("validator")

CYCLE_SECONDS = 12
_SCORES = "miner_scores"
_PENDING = "pending_pods_prefix"


class Validator:
    """The cycle that asks miners for jobs. There is no chain here, so no miner is found, and it says so."""

    def __init__(self, redis: Redis, ports: Ports | None) -> None:
        self._redis = redis
        self._ports = ports
        self._scores: dict[str, float] = {}
        self._should_exit = False

    async def run(self) -> None:
        """Take the scores over from Redis, then log the markers once per cycle until told to stop."""
        logger.info("[start] Starting Validator in background")
        logger.info("[Error] failed initializing subtensor: the lab has no chain")
        try:
            self._scores = json.loads(await self._redis.get(_SCORES) or "{}")
            await self._redis.delete(_PENDING)
        except (RedisError, ValueError) as error:
            logger.error("[initiate_services] Failed to initialize miner_scores: %s", error)
        logger.info("[initiate_services] miner scores: %s", self._scores)
        while not self._should_exit:
            await self._sync()
            await asyncio.sleep(CYCLE_SECONDS)

    async def _sync(self) -> None:
        logger.info("[sync] Syncing at subtensor")
        if self._ports:
            try:
                await self._ports.forget()
            except (OSError, SQLAlchemyError) as error:
                logger.error("the ports of yesterday stay: %s", error)
        logger.error("[sync] Unknown error: no subtensor")

    async def stop(self) -> None:
        """Save the scores and ask the cycle to end. As upstream's it looks up only when its sleep is over."""
        logger.info("[stop] Stopping Validator process")
        self._should_exit = True
        try:
            await self._redis.set(_SCORES, json.dumps(self._scores))
        except RedisError as error:
            logger.info("[stop] Failed to save miner_scores: %s", error)


def create_app(settings: Settings) -> FastAPI:
    """Return the API, which has no route of its own."""
    # Upstream of 2025-08 has the second address of Postgres, but uses it nowhere.
    ports = Ports(settings.async_sqlalchemy_database_uri) if DIALECT == "lium" else None

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        validator = Validator(Redis(host=settings.redis_host, port=settings.redis_port), ports)
        task = asyncio.create_task(validator.run())
        yield
        await validator.stop()
        await task

    return FastAPI(title="compute-subnet-validator", lifespan=lifespan)


def main() -> None:
    """Serve until stopped. Wrong settings, a missing hotkey, no Redis or no Postgres end the start with 1."""
    announce("validator")
    imitate_sdk_import()
    settings = load()
    logger.info("the hotkey is %s", open_hotkey(settings))
    wait_for_services(settings)
    uvicorn.run(create_app(settings), host="0.0.0.0", port=settings.internal_port)  # noqa: S104 -- as upstream


if __name__ == "__main__":
    main()
