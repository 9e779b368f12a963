"""One card, or the processor in its place, as the chain sees it: exact products, six bits of them, and memory."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from celium_ops.gpu.arithmetic import LIMBS, SIZES, narrow, values

MARGIN = 640 * 2**20
"""Bytes of a card that are left free: for what steps need beside their outcome, and the driver for a first start."""
WORKING = 8
"""Bytes for each element of a matrix, beside the stored layers: W and X in 16 bits, and sums in 32."""
PROCESSOR_SIZE, PROCESSOR_LAYERS = 512, 24
_BLOCK = 2**24
"""Elements that are worked on at once where a step needs more memory than its outcome."""
_AT_ONCE = 2**30
_FEWEST_ROWS = 17
"""Products of 8 bits need that many."""


@dataclass
class Device:
    """A card that torch computes on.

    Args:
        name: ``cuda``, or ``cpu``, which does the same slower and proves nothing.
        pace: seconds that a product takes at least: how fast a simulated card is.
    """

    name: str
    pace: float = 0.0
    spans: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cuda = self.name == "cuda"
        torch.set_num_threads(1)
        self.dtype, self.has_int8 = torch.float32, False
        if not self.cuda:
            return
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_tf32 = True  # six bits fit into its eleven
        if _works(torch.float16, lambda one: torch.mm(one, one, out_dtype=torch.float32)):
            native = torch.cuda.get_device_capability() >= (8, 0)
            self.dtype = torch.bfloat16 if native else torch.float16
        self.has_int8 = _works(torch.int8, lambda one: torch._int_mm(one, one.t()))

    def room(self) -> dict[int, int]:
        """Return how many layers there is memory for, beside what the work itself takes, by the rows of a matrix."""
        if not self.cuda:
            return {PROCESSOR_SIZE: PROCESSOR_LAYERS}
        free = torch.cuda.mem_get_info()[0] - MARGIN
        working = WORKING if self.dtype != torch.float32 else WORKING + 4
        # A layer, and the sums of its rows.
        found = {size: (free - working * size**2) // (size**2 + 4 * size) - 1 for size in SIZES}
        return {size: layers for size, layers in found.items() if layers > 0}

    def keys(self, words: bytes) -> Any:
        """Return keys, where they are used."""
        return torch.frombuffer(bytearray(words), dtype=torch.int32).to(self.name)

    def storage(self, layers: int, size: int) -> Any:
        """Return memory for layers, in one piece."""
        return torch.empty((layers, size, size), dtype=torch.int8, device=self.name)

    def fill(self, into: Any, rows: Any, columns: Any) -> None:
        """Write values into a part of a layer."""
        for block in _blocks(*into.shape):
            into[block] = values(rows[block, None], columns[None, :]).to(into.dtype)

    def operand(self, rows: Any, columns: Any) -> Any:
        """Return a matrix of values, ready to be multiplied."""
        made = torch.empty((len(rows), len(columns)), dtype=self.dtype, device=self.name)
        self.fill(made, rows, columns)
        return made

    def ones(self, size: int) -> Any:
        """Return the narrowest matrix whose products are the sums of rows."""
        return torch.ones((size, 8), dtype=self.dtype, device=self.name)

    def totals(self, matrix: Any, ones: Any) -> Any:
        """Return the exact sum of each row of a matrix that is ready to be multiplied."""
        return self.product(matrix, ones)[:, 0].clone()  # or all columns would stay in memory

    def release(self) -> None:
        """Give back memory that is kept for later."""
        if self.cuda:
            torch.cuda.empty_cache()

    def loaded(self, layer: Any) -> Any:
        """Return a stored layer, ready to be multiplied."""
        return layer.to(self.dtype)

    def product(self, left: Any, right: Any) -> Any:
        """Return the exact sums, in fp32."""
        if self.dtype == torch.float32:
            return torch.mm(left, right)
        return torch.mm(left, right, out_dtype=torch.float32)

    def timed_product(self, left: Any, right: Any) -> Any:
        """Return the sums, and keep when the product began and ended."""
        if self.cuda:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            sums = self.product(left, right)
            end.record()
            self.spans.append((begin, end))
            return sums
        begin = time.perf_counter()
        sums = self.product(left, right)
        time.sleep(max(0.0, self.pace - (time.perf_counter() - begin)))
        self.spans.append(time.perf_counter() - begin)
        return sums

    def seconds(self) -> list[float]:
        """Wait until the card has done what it was given; return what each product took since this was last asked."""
        if not self.cuda:
            spans, self.spans = self.spans, []
            return spans
        torch.cuda.synchronize()
        events, self.spans = self.spans, []
        return [begin.elapsed_time(end) / 1000 for begin, end in events]

    def narrow(self, sums: Any, shift: int, into: Any) -> None:
        """Write six bits of the sums into a layer."""
        for block in _blocks(*sums.shape):
            # The second byte of each sum, which has been moved there if it was elsewhere, without its two low bits.
            moved = sums[block] * 2.0 ** (10 - shift) if shift != 10 else sums[block]
            second = moved.to(torch.int32).view(torch.int8)[:, 1::4]
            torch.bitwise_right_shift(second, 2, out=into[block])

    def tree_matrix(self, rows: Any, columns: Any) -> Any:
        """Return the tree's matrix, as it is stored, column after column: products of 8 bits want it so."""
        made = torch.empty((len(columns), len(rows)), dtype=torch.int8, device=self.name)
        self.fill(made, columns, rows)
        return made.t()

    def tree_sums(self, level: Any, matrix: Any) -> Any:
        """Return the exact sums of stored rows with the tree's matrix, in int32."""
        if self.has_int8 and len(level) >= _FEWEST_ROWS:
            return torch._int_mm(level, matrix)
        return self.product(self.loaded(level), self.loaded(matrix)).to(torch.int32)

    def layers_at_once(self, size: int) -> int:
        """Return how many layers a tree is made over at once: starting many small steps takes longer than they do."""
        return max(1, _AT_ONCE // size**2) if self.has_int8 else 1

    def low_bits(self, sums: Any) -> Any:
        """Return what the tree keeps of its sums: the low bits, in several numbers."""
        return torch.cat([narrow(sums, shift) for shift in LIMBS], dim=1).to(torch.int8)

    def checksum(self, matrix: Any) -> Any:
        """Return what the sums of each row of a product with ``matrix`` follow from, in a few columns.

        A row's sum has 20 bits, more than a product's operands may have: it is split into six at a time.
        """
        rest = self.totals(matrix, self.ones(matrix.shape[1])).to(torch.int32)
        limbs = torch.zeros((matrix.shape[0], 8), dtype=self.dtype, device=self.name)
        for column in range(4):
            low = (rest << 26) >> 26
            limbs[:, column] = low.to(self.dtype)
            rest = (rest - low) >> 6
        return limbs

    def wrong_rows(self, sums: Any, left: Any, checksum: Any, turn: int) -> Any:
        """Return how many rows of a product have a sum that is wrong, as a tensor of one number.

        Of a large product it looks at a part, which moves on with each ``turn``: sums in fp64 take memory.
        """
        blocks = _blocks(*sums.shape)
        block = blocks[turn % len(blocks)]
        parts = self.product(left[block], checksum).to(torch.float64)
        weights = torch.tensor([64.0**power for power in range(8)], dtype=torch.float64, device=self.name)
        return (sums[block].sum(dim=1, dtype=torch.float64) != parts @ weights).sum()

    def differ(self, left: Any, right: Any) -> int:
        """Return in how many places two vectors differ."""
        return int((left != right).sum())

    def content(self, tensor: Any) -> bytes:
        """Return the bytes of a tensor."""
        here = tensor.contiguous().cpu()
        return ctypes.string_at(here.data_ptr(), here.numel() * here.element_size())


def _blocks(rows: int, columns: int) -> list[slice]:
    step = max(1, _BLOCK // columns)
    return [slice(first, first + step) for first in range(0, rows, step)]


def _works(dtype: Any, product: Any) -> bool:
    """Tell whether this torch, on this card, has a kind of product.

    Without 16 bits multiplied into 32, operands take 32 bits too, of which TF32 uses 19.
    """
    try:
        product(torch.ones((32, 32), dtype=dtype, device="cuda"))
    except (TypeError, RuntimeError, NotImplementedError, AttributeError):
        return False
    return True
