"""The arithmetic of the proof, the same for torch tensors and numpy arrays, on any device, bit for bit.

All matrices hold whole numbers of six bits, from -32 to 31. A product of two such rows of up to 16384 numbers stays
within 2**24, which fp32 holds exactly, so that the order of summation, and with it the card, the kernel and the
precision of its inputs (bf16, fp16, TF32, fp32), cannot change the result.

The chain: X[0] and W are made from the challenge, and X[i + 1] is six bits out of the middle of each sum in X[i] W.
Taking bits is not linear, so nothing shortens a chain; the last columns of each layer are made from the challenge and
the layer's number instead, so that no layer can be a copy of another, nor of few different rows, and be cheap.

The tree over a layer: its rows are multiplied by a narrow matrix H, which is made from a second challenge after the
chain is done; the low twelve bits of the sums, in two numbers of six, are put into rows and multiplied likewise, until
little is left, which SHA-256 sums up. To find another row with the same outcome means to find a short vector of a
lattice modulo 4096 in 256 dimensions that exists since a second (Ajtai 1996), while it costs a card three per cent of
a product.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

LOW, HIGH = -32, 31
INJECTED = 8
"""The last columns of each layer, made from the challenge."""
SMALLEST, LARGEST = 64, 16384
"""Rows of a matrix; 16384 products of at most 32 * 32 are 2**24."""
MOST_LAYERS = 8192
"""Products of a chain: no card has memory for more layers of large matrices."""
SIZES = (8192, 16384)
"""Rows of the matrices of real cards: smaller ones would leave them idle."""
PROTOCOL = "celium-ops/gpu-proof/1"

_FIRST, _SECOND = 0x7FEB352D, 0x846CA68B - 2**32  # Wellons' lowbias32, without the steps that change no high bits
_COLUMNS = 256
LIMBS = (0, 6)
"""Where the numbers begin that a sum of the tree is kept in."""


@dataclass(frozen=True)
class Shape:
    """A chain of ``layers`` products (at most 8192) of square matrices; ``size``, their rows, is a power of two."""

    size: int
    layers: int

    def __post_init__(self) -> None:
        if not SMALLEST <= self.size <= LARGEST or self.size & (self.size - 1) or not 1 <= self.layers <= MOST_LAYERS:
            raise ValueError(f"no chain of {self.layers} products of {self.size} rows")

    @property
    def shift(self) -> int:
        """The lowest of the six bits that are taken: above it the sums spread over all their values."""
        return (self.size.bit_length() + 6) // 2

    @property
    def columns(self) -> int:
        """Columns of the tree's matrix."""
        return min(_COLUMNS, self.size // 8)

    @property
    def width(self) -> int:
        """Numbers that a row comes down to."""
        return self.columns * len(LIMBS)

    @property
    def levels(self) -> list[int]:
        """Rows of each level of the tree, the layer's own first; the last one's outcome is hashed."""
        rows = [self.size]
        while rows[-1] * self.width >= self.size:
            rows.append(rows[-1] * self.width // self.size)
        return rows

    @property
    def operations(self) -> int:
        """Floating-point operations of the chain's products."""
        return 2 * self.size**3 * self.layers

    @property
    def stored(self) -> int:
        """Bytes of all layers."""
        return (self.layers + 1) * self.size**2


def card_seed(nonce: bytes, uuid: str) -> bytes:
    """Return what all keys of one card are made from: no card's work serves another's."""
    return hashlib.sha256(nonce + uuid.encode()).digest()


def keys(seed: bytes, label: str, count: int) -> bytes:
    """Return ``count`` words of 32 bits, little-endian."""
    return hashlib.shake_256(seed + label.encode()).digest(4 * count)


def values(rows: Any, columns: Any) -> Any:
    """Return a matrix of whole numbers from -32 to 31, as int32.

    ``rows`` and ``columns`` are keys as int32 arrays of the shapes (n, 1) and (1, m). Products wrap at 32 bits.
    """
    mixed = (rows ^ columns) * _FIRST
    mixed = mixed ^ ((mixed >> 15) & 0x1FFFF)
    return (mixed * _SECOND) >> 26


def narrow(sums: Any, shift: int) -> Any:
    """Return the six bits from ``shift`` upwards of int32 sums, the highest as the sign."""
    return ((sums >> shift) << 26) >> 26
