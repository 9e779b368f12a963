"""One reading of a subnet through the SDK, or from a snapshot file. No key is needed, none is opened.

The SDK gives up at once when an endpoint refuses it under a policy (HTTP 429), waits 60 s for an answer, and retries
without an end or hardly at all. So each try of ours has one endpoint and a limit, and what happens between the tries,
and when to stop, is decided here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from celium_ops.base.errors import CeliumError, UsageError
from celium_ops.base.paths import cache_dir
from celium_ops.chain import networks
from celium_ops.chain.guards import no_subnet
from celium_ops.chain.networks import Network
from celium_ops.chain.record import Record
from celium_ops.chain.snapshot import Snapshot, load

if TYPE_CHECKING:
    from bittensor import RpcSubstrate

T = TypeVar("T")

SECONDS = 60.0
"""How long a reading may take in all."""
TRIES = 3
"""How often one endpoint is tried in that time."""
_PAUSE, _LONGEST_PAUSE = 0.5, 8.0
_GOODBYE = 1.0
_LOG = logging.getLogger(__name__)

# What the metagraph does not say: where the chain stores it, and whether for each subnet.
_STORED = {
    "milliseconds": ("Timestamp", "Now", False),
    "tao_weight": ("SubtensorModule", "TaoWeight", False),
    "stake_threshold": ("SubtensorModule", "StakeThreshold", False),
    "min_non_immune_uids": ("SubtensorModule", "MinNonImmuneUids", True),
    "immune_owner_uids_limit": ("SubtensorModule", "ImmuneOwnerUidsLimit", True),
}
_REMEDIES = {
    "chain-rate-limited": "wait, or read through a node of your own: --network ws://ADDRESS:9944",
    "chain-refused": "read through another node: --network ws://ADDRESS:9944",
    "chain-timeout": "try again, or read through another node: --network ws://ADDRESS:9944",
    "chain-unreachable": "check the address and the way to it, or name another node with --network",
    "chain-error": "read through another node: --network ws://ADDRESS:9944",
}


def is_file(network: str) -> bool:
    """Tell whether a network is a snapshot file."""
    return network.endswith(".json")


def read(network: str, netuid: int | None = None, *, block: int | None = None, seconds: float = SECONDS) -> Snapshot:
    """Return the subnet as a network has it at a block, or as a snapshot file has it.

    Args:
        network: a name, the address of a node, or a file.
        netuid: the subnet; None is that of the file, else ours.
        block: its number; None is the newest. Only archives have those older than 256 blocks. A file has one.
        seconds: how long it may take.

    Raises:
        UsageError: there is no such network, or the file holds no such snapshot.
        GuardError: the network has no such subnet.
        CeliumError: no node of the network answers as it should.
    """
    if not is_file(network):
        wanted = networks.NETUID if netuid is None else netuid
        return read_chain(networks.find(network), wanted, block=block, seconds=seconds)
    snapshot = load(Path(network))
    if netuid not in (None, snapshot.netuid):
        raise UsageError(f"{network} is of subnet {snapshot.netuid}, not of {netuid}", file=network)
    return snapshot


def read_chain(network: Network, netuid: int, *, block: int | None = None, seconds: float = SECONDS) -> Snapshot:
    """Return the subnet as a network has it at its newest block, or at ``block``; all of it comes from one node.

    Endpoints that fail are tried again after a pause, the others meanwhile; one that says when to come again is not
    asked before.

    Raises:
        GuardError: the network has no such subnet.
        CeliumError: no endpoint answers as it should; which, and why.
    """
    end = time.monotonic() + seconds
    tries = {endpoint: _Try() for endpoint in network.endpoints}
    while True:
        endpoint = min(tries, key=lambda name: tries[name].due)
        one = tries[endpoint]
        pause = max(0.0, one.due - time.monotonic())
        if pause >= end - time.monotonic():
            raise _unreadable(network, tries)
        time.sleep(pause)
        # The others, if they were not asked yet, get their part of the time.
        share = (end - time.monotonic()) / max(1, sum(not other.count for other in tries.values()))
        try:
            record = _run(_ask(endpoint, netuid, block), share)
        except Exception as error:  # the SDK raises what it likes; to the operator it is a node that does not answer
            one.failed(error, endpoint)
            _LOG.info("%s: %s", networks.shown(endpoint), one.why)
            continue
        if record is None:
            raise no_subnet(network.name, netuid)
        return record.snapshot(network.name, netuid)


@dataclass
class _Try:
    """What came of asking one endpoint. ``due`` is when it may be asked again, by the monotonic clock."""

    due: float = 0.0
    count: int = 0
    code: str = "chain-unreachable"
    why: str = "not asked"

    @property
    def said(self) -> str:
        """Return why, and how often that was so."""
        return self.why + (f" ({self.count} times)" if self.count > 1 else "")

    def failed(self, error: Exception, endpoint: str) -> None:
        """Remember why, and when to come again: after a growing pause, not all at once, or when it said so."""
        self.count += 1
        self.code, self.why = _reason(error, endpoint)
        longest = min(_LONGEST_PAUSE, _PAUSE * 2**self.count)
        pause = max(random.uniform(longest / 2, longest), _retry_after(error))  # noqa: S311  nothing depends on luck
        never = self.count >= TRIES or self.code == "chain-refused"
        self.due = float("inf") if never else time.monotonic() + pause


def _reason(error: Exception, endpoint: str) -> tuple[str, str]:
    """Return the code and the reason of a failure in one line."""
    from bittensor import ChainError, RpcPolicyError

    text = " ".join(str(error).replace(endpoint, networks.shown(endpoint)).split())
    text = text.removeprefix("could not connect to any endpoint: ")[:300] or type(error).__name__
    if isinstance(error, TimeoutError):
        return "chain-timeout", "no answer in time"
    if isinstance(error, RpcPolicyError):
        limited = error.status_code != 403
        again = f"; it says: again after {error.retry_after} s" if error.retry_after else ""
        return ("chain-rate-limited" if limited else "chain-refused"), text + again
    return ("chain-error" if isinstance(error, ChainError) else "chain-unreachable"), text


def _retry_after(error: Exception) -> float:
    """Return the seconds that an endpoint wants to be left alone; 0 when it says nothing that can be read.

    It is a number of seconds, a moment in seconds since 1970, or a date as HTTP writes it.
    """
    text = str(getattr(error, "retry_after", None) or "")
    try:
        if text.replace(".", "", 1).isdigit():
            number = float(text)
            return number if number < 10**9 else max(0.0, number - time.time())
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _unreadable(network: Network, tries: dict[str, _Try]) -> CeliumError:
    codes = {one.code for one in tries.values() if one.count} or {"chain-timeout"}
    code = codes.pop() if len(codes) == 1 else "chain-unreachable"
    said = "; ".join(f"{networks.shown(endpoint)}: {one.said}" for endpoint, one in tries.items())
    named = f"{network.name} cannot be read: " if network.name in networks.NETWORKS else "the chain cannot be read: "
    return CeliumError(named + said, remedy=_REMEDIES[code], code=code)


def _run(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Run ``work`` on a loop of its own, and leave nothing of it behind: no task, no socket, no complaint on stderr."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, context: _LOG.debug("%s", context.get("message")))
    try:
        return loop.run_until_complete(asyncio.wait_for(work, seconds))
    finally:
        loop.run_until_complete(_end_all())
        # It does not wait for the thread of a name that is still being looked up.
        loop.close()


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _ask(endpoint: str, netuid: int, block: int | None) -> Record | None:
    """Return what one endpoint says of the subnet at a block, or the newest; None when there is no such subnet."""
    substrate = _substrate(endpoint)
    try:
        await substrate.connect()
        head = await substrate.block_hash(block)
        graph = await substrate.runtime_call("SubnetInfoRuntimeApi", "get_metagraph", [netuid], head)
        if graph is None:
            return None

        stored = await asyncio.gather(
            *(
                substrate.query(pallet, item, [netuid] if of_subnet else [], head)
                for pallet, item, of_subnet in _STORED.values()
            )
        )
        return Record(
            graph=graph,
            genesis=await substrate.block_hash(0),
            spec_version=await substrate.spec_version(),
            **{name: int(value) for name, value in zip(_STORED, stored, strict=True)},
        )
    finally:
        with suppress(Exception):
            async with asyncio.timeout(_GOODBYE):
                await substrate.close()


def _substrate(endpoint: str) -> RpcSubstrate:
    """Return a connection to one endpoint, not opened yet; what the SDK caches is kept among our own files."""
    os.environ.setdefault("BITTENSOR_RUNTIME_CACHE_DIR", str(cache_dir() / "chain"))
    os.environ.setdefault("BTCLI_TOKEN_SYMBOLS_CACHE", str(cache_dir() / "chain" / "token_symbols.json"))
    from bittensor import RpcSubstrate

    # The websocket library speaks through logging too, and without a handler Python prints warnings.
    logging.getLogger("websockets").addHandler(logging.NullHandler())
    return RpcSubstrate(endpoint, fallback_endpoints=[], archive_endpoints=[])
