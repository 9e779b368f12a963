"""One card's part of a proof: the chain that keeps its layers in the card's memory, the tree over them, openings."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from celium_ops.gpu.arithmetic import INJECTED, Shape, card_seed, keys

if TYPE_CHECKING:
    from celium_ops.gpu.prover.device import Device

Beat = Callable[[int], None]
_EVERY = 16
"""Products between two signs of life; a card is also never given more than these at once."""


class Chain:
    """The layers of one chain, all of them in memory."""

    def __init__(self, device: Device, shape: Shape, nonce: bytes, uuid: str) -> None:
        self.device, self.shape = device, shape
        self.seed = card_seed(nonce, uuid)
        self.spans: list[float] = []
        self.seconds = 0.0
        self.wrong_rows = 0

    def run(self, beat: Beat) -> None:
        """Compute all layers; ``beat`` is told how many there are."""
        device, size, layers = self.device, self.shape.size, self.shape.layers
        begun = time.monotonic()
        factor = device.operand(self._keys("factor rows", size), self._keys("factor columns", size))
        checksum, ones = device.checksum(factor), device.ones(size)
        rows = self._keys("layer rows", size)
        injected = device.keys(b"".join(keys(self.seed, f"layer {n} columns", INJECTED) for n in range(1, layers + 1)))
        self.layers = device.storage(layers + 1, size)
        self.totals: list[Any] = []
        device.fill(self.layers[0], rows, self._keys("layer 0 columns", size))
        wrong = 0
        for number in range(1, layers + 1):
            left = device.loaded(self.layers[number - 1])
            self.totals.append(device.totals(left, ones))
            sums = device.timed_product(left, factor)
            wrong = wrong + device.wrong_rows(sums, left, checksum, number)
            self.keep(number, sums)
            columns = injected[INJECTED * (number - 1) : INJECTED * number]
            device.fill(self.layers[number][:, -INJECTED:], rows, columns)
            del left, sums  # before the next ones need their memory
            if number % _EVERY == 0 or number == layers:
                self.spans += device.seconds()
                beat(number)
        self.wrong_rows = int(wrong)
        self.seconds = time.monotonic() - begun

    def keep(self, number: int, sums: Any) -> None:
        """Make a layer of a product."""
        self.device.narrow(sums, self.shape.shift, self.layers[number])

    def _keys(self, label: str, count: int) -> Any:
        return self.device.keys(keys(self.seed, label, count))

    def changed_rows(self) -> int:
        """Return how many stored rows have not the sum that they had when they were used."""
        device, ones = self.device, self.device.ones(self.shape.size)
        now = (device.totals(device.loaded(layer), ones) for layer in self.layers)
        return sum(device.differ(before, after) for before, after in zip(self.totals, now, strict=False))

    def commit(self, nonce: bytes) -> bytes:
        """Return a digest of 32 bytes for each layer."""
        rows, columns = keys(nonce, "tree rows", self.shape.size), keys(nonce, "tree columns", self.shape.columns)
        self.matrix = self.device.tree_matrix(self.device.keys(rows), self.device.keys(columns))
        size, step = self.shape.size, self.device.layers_at_once(self.shape.size)
        digests = b""
        for first in range(0, len(self.layers), step):
            some = self.layers[first : first + step]
            *_, tops = self._tree(some.reshape(-1, size))
            each = len(tops) // len(some)
            digests += b"".join(hashlib.sha256(tops[at : at + each]).digest() for at in range(0, len(tops), each))
        return digests

    def _tree(self, layers: Any) -> Iterator[Any]:
        """Return the levels over one layer, or several on top of each other, and last the bytes that are hashed."""
        level = layers
        for rows in self.shape.levels:
            if rows != self.shape.size:
                level = level.reshape(-1, self.shape.size)
                yield level
            level = self.device.low_bits(self.device.tree_sums(level, self.matrix))
        yield self.device.content(level)

    def open(self, places: Sequence[tuple[int, int]]) -> list[list[bytes]]:
        """Return for each layer and row: the row, what is above it at each level, and the bytes that are hashed."""
        return [self._opened(layer, row) for layer, row in places]

    def _opened(self, number: int, row: int) -> list[bytes]:
        layer = self.layers[number]
        path = [self.device.content(layer[row])]
        *levels, top = self._tree(layer)
        for level in levels:
            row = row * self.shape.width // self.shape.size
            path.append(self.device.content(level[row]))
        return [*path, top]
