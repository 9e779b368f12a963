"""The JSON-RPC methods of the simulated chain: what a client is told, without a socket."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from celium_ops import __version__
from celium_ops.lab.chain.faults import DISCARDED_CODE, Fault
from celium_ops.lab.chain.metadata import GENESIS, Recording
from celium_ops.lab.chain.runtime import Runtime
from celium_ops.lab.chain.state import State

NAME = "celium-ops lab (simulated)"
_METHOD_NOT_FOUND = -32601
_INVALID_PARAMETERS = -32602
_BLOCK_DIGITS = 16
_WRONG_GENESIS = "0x" + hashlib.blake2b(GENESIS.encode(), digest_size=32).hexdigest()


class RpcError(Exception):
    """A request that is answered with an error; ``data`` goes along."""

    def __init__(self, code: int, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.answer = {"code": code, "message": message, **({"data": data} if data else {})}


class Rpc:
    """The answers of a chain in its present state."""

    def __init__(self, recording: Recording, state: State) -> None:
        self.runtime = Runtime(_codec(recording))
        self.state = state
        self._storage: tuple[int, State | None, dict[str, str]] = (0, None, {})
        self._methods: dict[str, Callable[..., Any]] = {
            "chain_getBlockHash": self._block_hash,
            "chain_getHead": self._head_hash,
            "chain_getFinalizedHead": self._head_hash,
            "chain_getHeader": self.header,
            "chain_getBlock": self._block,
            "state_getRuntimeVersion": self._version,
            "state_call": self._call,
            "state_getStorage": self._stored,
            "state_getStorageAt": self._stored,
            "state_queryStorageAt": self._stored_many,
            "state_getKeysPaged": self._keys,
            "system_chain": lambda: NAME,
            "system_name": lambda: "celium-ops simulated chain",
            "system_version": lambda: __version__,
            "system_properties": lambda: {"ss58Format": 42, "tokenDecimals": 9, "tokenSymbol": "TAO"},
            "system_health": lambda: {"peers": 0, "isSyncing": False, "shouldHavePeers": False},
            "rpc_methods": lambda: {"methods": sorted(self._methods)},
        }

    @property
    def head(self) -> int:
        """Return the number of the newest block."""
        return self.state.head(datetime.now(UTC))

    def answer(self, method: str, parameters: list[Any]) -> Any:
        """Return the result of a request.

        Raises:
            RpcError: there is none.
        """
        call = self._methods.get(method)
        if call is None:
            raise RpcError(_METHOD_NOT_FOUND, f"the simulated chain does not know the method {method}")
        try:
            return call(*parameters)
        except (TypeError, ValueError, AttributeError) as error:
            raise RpcError(_INVALID_PARAMETERS, f"{method}: {error}") from error

    def header(self, block_hash: str | None = None) -> dict[str, Any] | None:
        """Return the header of a block, of the newest by default; None when there is no such block."""
        number = self._number(block_hash)
        if number is None:
            return None
        parent = self._hash(number - 1) if number else "0x" + "0" * 64
        roots = {"stateRoot": "0x" + "11" * 32, "extrinsicsRoot": "0x" + "22" * 32}
        return {"parentHash": parent, "number": hex(number), **roots, "digest": {"logs": []}}

    def _hash(self, number: int) -> str:
        """Return the hash of a block. It ends with the block's number, so that any block can be found by its hash."""
        first = _WRONG_GENESIS if self.state.fault is Fault.WRONG_GENESIS else GENESIS
        if number == 0:
            return first
        mark = hashlib.blake2b(f"{first}/{number}".encode(), digest_size=24).hexdigest()
        return f"0x{mark}{number:0{_BLOCK_DIGITS}x}"

    def _number(self, block_hash: str | None) -> int | None:
        if block_hash is None:
            return self.head
        if block_hash in {GENESIS, _WRONG_GENESIS}:
            return 0
        number = int(block_hash[-_BLOCK_DIGITS:], 16)
        return number if number <= self.head else None

    def _head_hash(self) -> str:
        return self._hash(self.head)

    def _block_hash(self, number: int | str | None = None) -> str | None:
        if number is None:
            return self._head_hash()
        wanted = int(number, 16) if isinstance(number, str) else number
        return self._hash(wanted) if wanted <= self.head else None

    def _block(self, block_hash: str | None = None) -> dict[str, Any] | None:
        header = self.header(block_hash)
        return header and {"block": {"header": header, "extrinsics": []}, "justifications": None}

    def _version(self, _block_hash: str | None = None) -> dict[str, Any]:
        codec = self.runtime.codec
        return {
            "specName": "node-subtensor",
            "implName": "celium-ops-simulated",
            "authoringVersion": 1,
            "specVersion": codec.spec_version,
            "implVersion": 1,
            "transactionVersion": codec.transaction_version,
            "stateVersion": 1,
            "apis": [],
        }

    def _call(self, name: str, data: str, block_hash: str | None = None) -> str:
        number = self._state_of(block_hash)
        exists = self.state.fault is not Fault.NO_SUBNET
        answer = self.runtime.call(
            name, bytes.fromhex(data.removeprefix("0x")), self.state.at(number) if exists else None
        )
        if answer is None:
            raise RpcError(_METHOD_NOT_FOUND, f"the simulated chain does not know the runtime call {name}")
        return "0x" + answer.hex()

    def _stored(self, key: str, block_hash: str | None = None) -> str | None:
        return self._storage_at(block_hash).get(key)

    def _stored_many(self, keys: list[str], block_hash: str | None = None) -> list[dict[str, Any]]:
        stored = self._storage_at(block_hash)
        return [{"block": block_hash or self._head_hash(), "changes": [[key, stored.get(key)] for key in keys]}]

    def _keys(self, prefix: str, count: int, start: str | None = None, block_hash: str | None = None) -> list[str]:
        first = start if start and start != prefix else ""
        found = sorted(key for key in self._storage_at(block_hash) if key.startswith(prefix) and key > first)
        return found[:count]

    def _storage_at(self, block_hash: str | None) -> dict[str, str]:
        """Return the storage at a block; the last one is kept, as clients ask for one block many times."""
        number = self._state_of(block_hash)
        if self._storage[0] != number or self._storage[1] is not self.state:
            exists = self.state.fault is not Fault.NO_SUBNET
            self._storage = (number, self.state, self.runtime.storage(self.state.at(number), exists))
        return self._storage[2]

    def _state_of(self, block_hash: str | None) -> int:
        """Return the block whose state is asked for."""
        if block_hash and self.state.fault is Fault.PRUNED:
            raise RpcError(DISCARDED_CODE, f"Client error: UnknownBlock: State already discarded for {block_hash}")
        number = self._number(block_hash)
        if number is None:
            raise RpcError(_INVALID_PARAMETERS, f"Client error: UnknownBlock: Header was not found: {block_hash}")
        return number


def _codec(recording: Recording) -> Any:
    from celium_ops.lab.chain.codec import Codec

    return Codec(recording)
