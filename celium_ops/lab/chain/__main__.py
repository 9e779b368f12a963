"""``python -m celium_ops.lab.chain [SNAPSHOT]``: a simulated chain of its own; the lab starts it with ``--state``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

from celium_ops.base.errors import CeliumError
from celium_ops.chain import snapshot
from celium_ops.lab.chain import evm, metadata, state, worlds
from celium_ops.lab.chain.faults import MEANINGS, Fault
from celium_ops.lab.chain.node import Node
from celium_ops.lab.chain.state import BLOCK_SECONDS, State


def _options() -> argparse.Namespace:
    faults = "\n".join(f"  {fault:<14} {meaning}" for fault, meaning in MEANINGS.items())
    parser = argparse.ArgumentParser(
        prog="python -m celium_ops.lab.chain",
        description="A simulated chain on a websocket, with a made-up subnet or that of a snapshot.",
        epilog=f"faults:\n{faults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("snapshot", nargs="?", type=Path, help="a file that `celium-ops chain snapshot` wrote")
    parser.add_argument("--state", type=Path, help="be what this file says instead, whenever it is replaced")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=9944, help="port, 0 for any (default: %(default)s)")
    parser.add_argument("--evm-port", type=int, help="port of an EVM endpoint, 0 for any (default: none)")
    parser.add_argument("--fault", choices=[fault.value for fault in Fault], help="misbehave from the start")
    parser.add_argument(
        "--block-seconds",
        type=float,
        default=BLOCK_SECONDS,
        help="what a block takes, 0 for none (default: %(default)s)",
    )
    parser.add_argument("--recording", type=Path, help="the runtime's metadata (default: the one in the cache)")
    return parser.parse_args()


def _initial(options: argparse.Namespace) -> State:
    if options.state:
        return state.load(options.state)
    now = datetime.now(UTC)
    world = snapshot.load(options.snapshot) if options.snapshot else worlds.default_world()
    fault = Fault(options.fault) if options.fault else None
    return State.begun(world, now, options.block_seconds or None).with_fault(fault, now)


async def _serve(node: Node, file: Path | None) -> None:
    await node.start()
    logging.info(
        "%s: simulated chain, block %d, fault %s", node.url, node.status()["block"], node.state.fault or "none"
    )
    tasks = [node.run(), *([node.follow(file)] if file else [])]
    await asyncio.gather(*tasks)


def main() -> int:
    """Serve until interrupted."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    try:
        recording = metadata.load(options.recording or metadata.ensure(logging.info))
        if options.evm_port is not None:
            logging.info("EVM endpoint on port %d", evm.serve(options.host, options.evm_port).server_port)
        node = Node(recording, _initial(options), host=options.host, port=options.port)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(node, options.state))
    except CeliumError as error:
        logging.error("%s%s", error, f"\n{error.remedy}" if error.remedy else "")
        return int(error.exit_code)
    except OSError as error:
        logging.error("cannot listen on %s:%d: %s", options.host, options.port, error.strerror)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
