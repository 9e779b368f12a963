"""Checks what a card's chain opened, on a processor. Pure; it needs no GPU, and less than a second.

What a lie costs: of the products that a card leaves out, the share ``left_out`` goes unseen with ``unseen(left_out)``.
A product left out once pays twice, since the next one is cheap too when its input can be chosen; hence the half.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from celium_ops.gpu.arithmetic import HIGH, INJECTED, LIMBS, LOW, Shape, card_seed, keys, narrow, values

Ints = npt.NDArray[np.int32]
Place = tuple[int, int]
Opening = Sequence[bytes]

SAMPLES = 32
"""Products of which one row is looked at."""
DIGEST = 32
COLUMNS = 32
"""Sums of each such row that are computed again."""


def unseen(left_out: float, samples: int = SAMPLES) -> float:
    """Return the probability that leaving out a share of the work is not seen."""
    return float((1 - left_out / 2) ** samples)


@dataclass(frozen=True)
class Fault:
    """Why a proof does not hold: ``code`` for programs, ``message`` for people."""

    code: str
    message: str


@dataclass(frozen=True)
class Samples:
    """What is looked at: rows of products (the layer before, the row), and columns of each."""

    products: tuple[Place, ...]
    columns: tuple[int, ...]

    @property
    def places(self) -> list[Place]:
        """The layers and rows to open: each row before its product, and after."""
        return [place for layer, row in self.products for place in ((layer, row), (layer + 1, row))]


def draw(shape: Shape) -> Samples:
    """Return what nobody could know before: random products, rows and columns."""
    dice = secrets.SystemRandom()
    products = tuple((dice.randrange(shape.layers), dice.randrange(shape.size)) for _ in range(SAMPLES))
    return Samples(products, tuple(dice.sample(range(shape.size - INJECTED), COLUMNS)))


class Tree:
    """The matrix that a layer's tree is made with; one serves all cards of a host that have matrices of a size."""

    def __init__(self, size: int, nonce: bytes) -> None:
        self.shape = Shape(size, 1)
        self.matrix = _operand(nonce, "tree rows", size, "tree columns", self.shape.columns)

    def fault(self, places: Sequence[Place], openings: Sequence[Opening], committed: bytes) -> Fault | None:
        """Return why openings do not belong to what was committed to; null when they do."""
        rows = self.shape.levels
        sizes = [*[self.shape.size] * len(rows), rows[-1] * self.shape.width]
        if any([len(part) for part in opening] != sizes for opening in openings):
            return Fault("malformed", "what was opened has parts of wrong sizes")
        paths = _numbers([part for opening in openings for part in opening[:-1]])
        if paths.min() < LOW or paths.max() > HIGH:
            return Fault("malformed", "a row holds numbers that no row can hold")
        # One product for all of them: the matrix is read once.
        found = self._low_bits(paths).reshape(len(openings), len(rows), -1)
        for (number, row), opening, parts in zip(places, openings, found, strict=True):
            if hashlib.sha256(opening[-1]).digest() != committed[DIGEST * number :][:DIGEST]:
                return Fault("other-layer", f"what was opened of layer {number} is not what was committed to")
            if not self._hangs_together(row, opening, parts):
                return Fault("other-row", f"row {row} of layer {number} is not in the layer that was committed to")
        return None

    def digest(self, layer: Ints) -> bytes:
        """Return what a whole layer comes down to."""
        level: npt.NDArray[Any] = layer
        for rows in self.shape.levels:
            level = self._low_bits(level.reshape(rows, self.shape.size))
        return hashlib.sha256(level.tobytes()).digest()

    def _low_bits(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
        sums = _sums(rows, self.matrix)
        return np.concatenate([narrow(sums, shift) for shift in LIMBS], axis=1).astype(np.int8)

    def _hangs_together(self, row: int, opening: Opening, parts: npt.NDArray[np.int8]) -> bool:
        """Tell whether each part of an opening is found in the part above it; the last one holds a whole level."""
        size, width = self.shape.size, self.shape.width
        for level, above in enumerate(opening[1:]):
            place = row % (size // width) if level < len(parts) - 1 else row
            if parts[level].tobytes() != above[place * width : (place + 1) * width]:
                return False
            row = row * width // size
        return True


def check(
    shape: Shape,
    nonce: bytes,
    uuid: str,
    tree: Tree,
    committed: bytes,
    samples: Samples,
    openings: Sequence[Opening],
) -> Fault | None:
    """Return why a card's proof does not hold; null when it does.

    Args:
        shape: of the chain that was asked for.
        nonce: that it was made from.
        uuid: of the card.
        tree: made from the second nonce.
        committed: 32 bytes for each layer, as they came.
        samples: drawn after that.
        openings: what came for ``samples.places``, in that order.
    """
    if len(committed) != DIGEST * (shape.layers + 1) or len(openings) != len(samples.places):
        return Fault("malformed", "the commitment or the openings are incomplete")
    fault = tree.fault(samples.places, openings, committed)
    return fault or _Products(shape, card_seed(nonce, uuid), samples).fault([opening[0] for opening in openings])


def digests(shape: Shape, nonce: bytes, uuid: str, tree: Tree) -> bytes:
    """Return what an honest card commits to, by doing all of its work: for small chains."""
    seed, size = card_seed(nonce, uuid), shape.size
    factor = _operand(seed, "factor rows", size, "factor columns", size)
    layer = _operand(seed, "layer rows", size, "layer 0 columns", size).astype(np.int32)
    found = tree.digest(layer)
    for number in range(1, shape.layers + 1):
        layer = _narrowed(layer, factor, shape.shift)
        layer[:, -INJECTED:] = _operand(seed, "layer rows", size, f"layer {number} columns", INJECTED)
        found += tree.digest(layer)
    return found


class _Products:
    """The rows before and after each sampled product."""

    def __init__(self, shape: Shape, seed: bytes, samples: Samples) -> None:
        self.shape, self.seed, self.samples = shape, seed, samples
        self.row_keys = _keys(seed, "layer rows", shape.size)

    def fault(self, rows: Sequence[bytes]) -> Fault | None:
        """Return what is wrong with the rows of ``samples.places``."""
        numbers = _numbers(rows)
        columns = list(self.samples.columns)
        factor = _operand(self.seed, "factor rows", self.shape.size, "factor columns", self.shape.size, columns)
        expected = _narrowed(numbers[0::2], factor, self.shape.shift)
        wrong = np.argwhere(expected != numbers[1::2][:, columns])
        if len(wrong):
            layer, row = self.samples.products[wrong[0][0]]
            message = f"{len(wrong)} of {expected.size} sums are wrong, the first in row {row} of layer {layer + 1}"
            return Fault("wrong-product", message)
        return next(filter(None, map(self._made, self.samples.places, numbers)), None)

    def _made(self, place: Place, found: Ints) -> Fault | None:
        """Look at what is made from the challenge: the first layer, and the last columns of all others."""
        layer, row = place
        count = INJECTED if layer else self.shape.size
        columns = _keys(self.seed, f"layer {layer} columns", count)
        expected = values(self.row_keys[row : row + 1, None], columns[None, :])[0]
        if (found[-count:] == expected).all():
            return None
        return Fault("other-challenge", f"row {row} of layer {layer} does not come from this challenge")


def _keys(seed: bytes, label: str, count: int) -> Ints:
    return np.frombuffer(keys(seed, label, count), dtype="<i4").astype(np.int32)


def _operand(
    seed: bytes, down: str, rows: int, across: str, columns: int, only: Sequence[int] | None = None
) -> npt.NDArray[np.float32]:
    chosen = _keys(seed, across, columns)
    found = values(_keys(seed, down, rows)[:, None], (chosen if only is None else chosen[list(only)])[None, :])
    return np.asarray(found, dtype=np.float32)


def _numbers(rows: Sequence[bytes]) -> Ints:
    return np.stack([np.frombuffer(row, dtype=np.int8) for row in rows]).astype(np.int32)


def _sums(left: npt.NDArray[Any], right: npt.NDArray[np.float32]) -> Ints:
    # Exact: no sum leaves fp32's whole numbers.
    return np.asarray(left.astype(np.float32) @ right, dtype=np.int32)


def _narrowed(left: Ints, right: npt.NDArray[np.float32], shift: int) -> Ints:
    return np.asarray(narrow(_sums(left, right), shift), dtype=np.int32)
