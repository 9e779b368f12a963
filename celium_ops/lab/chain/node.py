"""The node: the simulated chain on a websocket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from celium_ops.base.errors import CeliumError
from celium_ops.chain.snapshot import Snapshot
from celium_ops.lab.chain import faults, metadata, state
from celium_ops.lab.chain.faults import Fault
from celium_ops.lab.chain.metadata import Recording
from celium_ops.lab.chain.rpc import NAME, Rpc, RpcError
from celium_ops.lab.chain.state import State

_LOG = logging.getLogger(__name__)
_WATCH_SECONDS = 0.1
_ANNOUNCED_AT_ONCE = 32
_GOODBYES = {Fault.DROPPING: CloseCode.INTERNAL_ERROR, Fault.CLOSING: CloseCode.NORMAL_CLOSURE}
_HEADS = {"chain_subscribeNewHeads": "chain_newHead", "chain_subscribeFinalizedHeads": "chain_finalizedHead"}


@dataclass
class _Subscription:
    """Who wants to know of new blocks, and the last one it was told of: none before its subscription was answered."""

    name: str
    connection: ServerConnection
    method: str
    told: int | None = None


class Node:
    """A simulated chain on a port of this machine.

    Attributes:
        port: where it listens; with 0 the system chooses one, and it stays.
        requests: how often each method was asked for since the start; of runtime calls, each on its own.
    """

    def __init__(
        self, recording: Recording, initial: State, *, host: str, port: int, slow_seconds: float = faults.SLOW_SECONDS
    ) -> None:
        self.host = host
        self.port = port
        self.requests: Counter[str] = Counter()
        self._rpc = Rpc(recording, initial)
        self._slow_seconds = slow_seconds
        self._server: Server | None = None
        self._subscriptions: dict[str, _Subscription] = {}
        self._numbers = itertools.count(1)
        self._announced = self._rpc.head
        self._changed = asyncio.Event()

    @property
    def url(self) -> str:
        """Return where clients connect."""
        return f"ws://{self.host}:{self.port}"

    @property
    def state(self) -> State:
        """Return how the chain is."""
        return self._rpc.state

    async def start(self) -> None:
        """Listen, unless the chain is dead.

        Raises:
            OSError: the port is taken.
        """
        if self._server is None and self.state.fault is not Fault.DEAD:
            self._server = await serve(
                self._converse, self.host, self.port, process_request=self._admit, compression=None, max_size=2**24
            )
            self.port = self._server.sockets[0].getsockname()[1]

    async def run(self) -> None:
        """Tell the subscribers of new blocks, forever."""
        while True:
            self._changed.clear()
            for number in range(max(self._announced, self._rpc.head - _ANNOUNCED_AT_ONCE) + 1, self._rpc.head + 1):
                self._announced = number
                for one in list(self._subscriptions.values()):
                    await self._tell(one, number)
            due = self.state.seconds_to_next(datetime.now(UTC))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), None if due is None else max(due, 0.001))

    async def become(self, changed: State) -> None:
        """Be another chain from now on, on the same port."""
        self._rpc.state = changed
        if changed.fault in faults.CUTS:
            await self.stop()
        await self.start()
        self._changed.set()

    async def stop(self) -> None:
        """Break all connections, as a crash does, and close the port."""
        server, self._server = self._server, None
        if server:
            for connection in server.connections:
                connection.transport.abort()
            server.close()
            await server.wait_closed()

    async def follow(self, file: Path) -> None:
        """Be what a file says, whenever it is replaced."""
        seen = None
        while True:
            if (mark := _mark(file)) != seen:
                seen = mark
                try:
                    await self.become(state.load(file))
                    _LOG.info("simulated chain: block %d, fault %s", self._rpc.head, self.state.fault or "none")
                except CeliumError as error:
                    _LOG.error("%s", error)
            await asyncio.sleep(_WATCH_SECONDS)

    def status(self) -> dict[str, Any]:
        """Return how the chain is, for people and programs."""
        head = self._rpc.head
        return {
            "simulated": True,
            "name": NAME,
            "netuid": self.state.snapshot.netuid,
            "neurons": len(self.state.snapshot.neurons),
            "block": head,
            "block_time": self.state.time_of(head).isoformat(),
            "fault": self.state.fault,
            "state": state.digest(self.state),
        }

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == faults.STATUS_PATH:
            return connection.respond(HTTPStatus.OK, json.dumps(self.status()))
        if self.state.fault is Fault.RATE_LIMIT:
            response = connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests (simulated)\n")
            response.headers["Retry-After"] = str(faults.RETRY_AFTER_SECONDS)
            return response
        return None

    async def _converse(self, connection: ServerConnection) -> None:
        try:
            async for message in connection:
                if self.state.fault in _GOODBYES:
                    await connection.close(_GOODBYES[self.state.fault])
                    return
                if self.state.fault is Fault.SLOW:
                    await asyncio.sleep(self._slow_seconds)
                asked = json.loads(message)
                before = set(self._subscriptions)
                many = isinstance(asked, list)
                answers = [self._respond(one, connection) for one in (asked if many else [asked])]
                fresh = set(self._subscriptions) - before
                await connection.send(json.dumps(answers if many else answers[0]))
                for name in fresh:
                    await self._tell(self._subscriptions[name], self._rpc.head, first=True)
        except (ConnectionClosed, ValueError):
            return
        finally:
            gone = [name for name, one in self._subscriptions.items() if one.connection is connection]
            for name in gone:
                del self._subscriptions[name]

    def _respond(self, asked: dict[str, Any], connection: ServerConnection) -> dict[str, Any]:
        method, parameters = asked["method"], asked.get("params") or []
        self.requests[parameters[0] if method == "state_call" else method] += 1
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": asked.get("id")}
        try:
            if self.state.fault is Fault.POLICY:
                refusal = {"policy": "simulated", "retry_after": faults.RETRY_AFTER_SECONDS}
                raise RpcError(faults.POLICY_CODE, "storage work rate limit exceeded", refusal)
            return answer | {"result": self._result(method, parameters, connection)}
        except RpcError as error:
            return answer | {"error": error.answer}

    def _result(self, method: str, parameters: list[Any], connection: ServerConnection) -> Any:
        if method in _HEADS:
            name = f"simulated-{next(self._numbers)}"
            self._subscriptions[name] = _Subscription(name, connection, _HEADS[method])
            return name
        if method.startswith("chain_unsubscribe"):
            return self._subscriptions.pop(parameters[0], None) is not None
        return self._rpc.answer(method, parameters)

    async def _tell(self, one: _Subscription, number: int, *, first: bool = False) -> None:
        """Tell a subscriber of a block, once; of none before the one with which its subscription begins."""
        if not first and (one.told is None or number <= one.told):
            return
        one.told = number
        header = self._rpc.answer("chain_getHeader", [self._rpc.answer("chain_getBlockHash", [number])])
        told = {"jsonrpc": "2.0", "method": one.method, "params": {"subscription": one.name, "result": header}}
        with contextlib.suppress(ConnectionClosed):
            await one.connection.send(json.dumps(told))


class RunningNode:
    """A node in a thread of this process, for tests; its methods return when the node has become what they say."""

    def __init__(self, node: Node, loop: asyncio.AbstractEventLoop) -> None:
        self._node = node
        self._loop = loop

    @property
    def url(self) -> str:
        """Return where clients connect; it stays the same while the node is dead."""
        return self._node.url

    @property
    def requests(self) -> Counter[str]:
        """Return how often each method was asked for; it may be cleared."""
        return self._node.requests

    @property
    def state(self) -> State:
        """Return how the chain is."""
        return self._node.state

    def set(self, snapshot: Snapshot) -> None:
        """Put another snapshot on the chain; a block that is not above the head becomes the next one."""
        self._become(self.state.with_snapshot(snapshot, datetime.now(UTC)))

    def fault(self, name: str | None) -> None:
        """Misbehave as ``Fault`` says; None ends it."""
        self._become(self.state.with_fault(Fault(name) if name else None, datetime.now(UTC)))

    def advance(self, blocks: int = 1) -> None:
        """Make blocks at once, on a chain that makes none by itself."""
        self._become(self.state.grown(blocks))

    def _become(self, changed: State) -> None:
        asyncio.run_coroutine_threadsafe(self._node.become(changed), self._loop).result()


@contextlib.contextmanager
def running_node(
    snapshot: Snapshot,
    *,
    port: int = 0,
    block_seconds: float | None = None,
    slow_seconds: float = faults.SLOW_SECONDS,
    recording: Path | None = None,
) -> Iterator[RunningNode]:
    """Run a node on the loopback address while the context lasts.

    Args:
        snapshot: what it serves; as it is, its block and time included, while no block passes.
        port: where it listens; 0 lets the system choose.
        block_seconds: what a block takes; None makes blocks only by ``advance``.
        slow_seconds: what each answer takes with the fault ``slow``.
        recording: the file of ``metadata.ensure``; by default the one in the cache, fetched when it is missing.
    """
    found = metadata.load(recording or metadata.ensure(lambda _line: None))
    initial = State.begun(snapshot, datetime.now(UTC), block_seconds)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulated chain", daemon=True)
    thread.start()

    async def begin() -> tuple[Node, asyncio.Task[None]]:
        node = Node(found, initial, host="127.0.0.1", port=port, slow_seconds=slow_seconds)
        await node.start()
        return node, asyncio.create_task(node.run())

    async def end(node: Node, task: asyncio.Task[None]) -> None:
        task.cancel()
        await node.stop()

    try:
        node, task = asyncio.run_coroutine_threadsafe(begin(), loop).result()
        try:
            yield RunningNode(node, loop)
        finally:
            asyncio.run_coroutine_threadsafe(end(node, task), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _mark(file: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced."""
    with contextlib.suppress(OSError):
        found = file.stat()
        return found.st_ino, found.st_mtime_ns
    return None
