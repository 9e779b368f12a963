"""Stands in for the miner's API: upstream's routes, start, log markers and slow end; of the chain it reads a block."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import uvicorn
import validator_api
import websockets
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from settings import CeliumSettings, LiumSettings, load
from sqlalchemy.exc import SQLAlchemyError
from standin import announce
from store import Store
from wallet import imitate_sdk_import, open_hotkey
from websockets.asyncio.client import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger("miner")

CYCLE_SECONDS = 120
CHAIN_SECONDS = 10


class ChainLoop:
    """The cycle that keeps a miner on the chain. It asks for the newest block, and logs what upstream does then."""

    def __init__(self, hotkey: str, endpoint: str) -> None:
        self._hotkey = hotkey
        self._endpoint = endpoint
        self._should_exit = False

    async def run(self) -> None:
        """Log the markers once per cycle until told to stop."""
        while not self._should_exit:
            await self._cycle()
            await asyncio.sleep(CYCLE_SECONDS)

    async def _cycle(self) -> None:
        try:
            block = await newest_block(self._endpoint)
        except (OSError, ValueError, KeyError, TypeError, websockets.exceptions.WebSocketException) as error:
            self._log(logging.INFO, "[Error] failed initializing subtensor", error=str(error))
            self._log(logging.ERROR, "[announce] Announcing miner error", error="no subtensor")
            self._log(logging.ERROR, "[sync] Miner sync failed", error="no subtensor")
            return
        self._log(logging.INFO, "[announce] Announce miner", simulated=f"not announced at block {block}")
        self._log(logging.INFO, "[save_validators] Sync validators", simulated="none are stored")

    def _log(self, level: int, message: str, **extra: str) -> None:
        """Log a message as upstream does: the message, and behind it what goes with it as JSON."""
        logger.log(level, "%s >>> %s", message, json.dumps({"hotkey": self._hotkey, **extra}))

    def stop(self) -> None:
        """Ask the loop to end. As upstream's it looks up only when its sleep is over."""
        self._should_exit = True


async def newest_block(endpoint: str) -> str:
    """Return the number of the newest block of the lab's chain, as its node writes it.

    A lab host must never reach the subnet's public endpoints, so a name of a network is no endpoint here.
    """
    if "://" not in endpoint:
        raise ValueError(f"the lab has no chain called {endpoint}")
    async with asyncio.timeout(CHAIN_SECONDS), connect(endpoint, proxy=None) as node:
        await node.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "chain_getHeader", "params": []}))
        return str(json.loads(await node.recv())["result"]["number"])


def create_app(settings: CeliumSettings | LiumSettings, store: Store, hotkey: str) -> FastAPI:
    """Return the API. Its lifespan fails, which ends the process with 3, where upstream's does."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not settings.external_ip_address:
            raise RuntimeError("EXTERNAL_IP_ADDRESS is blank, and the lab has nobody to ask for the public address")
        loop = ChainLoop(hotkey, settings.bittensor_chain_endpoint or settings.bittensor_network)
        task = asyncio.create_task(loop.run())
        yield
        # The listening socket is closed by now; the process lives until the loop's sleep is over, as upstream's does.
        loop.stop()
        await task

    app = FastAPI(title="compute-subnet-miner", lifespan=lifespan)

    @app.get("/debug/get-executors-for-validator/{validator_hotkey}")
    def executors_of(validator_hotkey: str) -> list[dict[str, Any]] | None:
        """Answer null, unless debugging is on."""
        rows = store.executors() if settings.debugging else []
        found = [dict(row._mapping) for row in rows if row.validator == validator_hotkey]
        return found if settings.debugging else None

    @app.post("/debug/register_pubkey/{validator_hotkey}")
    @app.post("/debug/remove_pubkey/{validator_hotkey}")
    def test_key(validator_hotkey: str) -> None:
        """Answer null: no executor is sent a key from here."""

    if isinstance(settings, LiumSettings):
        app.include_router(validator_api.router)
    app.add_api_websocket_route("/websocket/{validator_key}", converse)
    return app


async def converse(websocket: WebSocket, validator_key: str) -> None:
    """Accept a validator's connection and close it with 1000 on a message that is no request.

    No validator is authenticated here: a request gets a refusal, and the connection is closed as well.
    """
    await websocket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        try:
            request = json.loads(await websocket.receive_text())
            logger.info("validator %s sent a %s", validator_key, request["message_type"])
            await websocket.send_json({"message_type": "UnAuthorizedRequest", "details": "lab stand-in"})
        except (KeyError, TypeError, ValueError) as error:
            logger.error("validator %s sent what is no request: %s", validator_key, error)
        await websocket.close(1000)


def main() -> int:
    """Serve until stopped; 1 without a database or with wrong settings, 3 when the start-up fails."""
    announce("miner")
    imitate_sdk_import()
    settings = load()
    hotkey = open_hotkey(settings)
    store = Store(settings.sqlalchemy_database_uri)
    try:
        store.check()
    except SQLAlchemyError as error:
        logger.error("the database does not answer: %s", error)
        return 1
    uvicorn.run(create_app(settings, store, hotkey), host="0.0.0.0", port=settings.internal_port)  # noqa: S104 -- as upstream
    return 0


if __name__ == "__main__":
    sys.exit(main())
