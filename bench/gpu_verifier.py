"""How much of this controller's time the verification of one host takes: `python bench/gpu_verifier.py`.

No card is needed: who knows beforehand which rows and columns will be looked at can make up openings that hold, and
this does. What is timed is what `celium-ops gpu prove` does with a real host's, from the text that came; the results go
to bench/results.
"""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import statistics
import time
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from celium_ops.gpu import messages, verifier
from celium_ops.gpu.arithmetic import INJECTED, Shape, card_seed, values

RESULT = Path(__file__).parent / "results" / "gpu_verifier.json"
SHAPE = Shape(16384, 540)
"""The chain of an H200."""
ROUNDS = 5


def opening(tree: verifier.Tree, shape: Shape, row: int, numbers: np.ndarray) -> list[bytes]:
    """Return an opening of a layer that has these numbers in a row, and whatever elsewhere."""
    rng, found, level = np.random.default_rng(), [], numbers.astype(np.int8)
    for number, rows in enumerate(shape.levels):
        found.append(level.tobytes())
        part = tree._low_bits(level[None, :])[0]
        last = number == len(shape.levels) - 1
        above = rng.integers(-32, 32, rows * shape.width if last else shape.size, dtype=np.int8)
        place = row if last else row % (shape.size // shape.width)
        above[place * shape.width : (place + 1) * shape.width] = part
        row, level = row * shape.width // shape.size, above
    return [*found, level.tobytes()]


def card(
    shape: Shape, nonce: bytes, uuid: str, tree: verifier.Tree
) -> tuple[bytes, verifier.Samples, list[list[bytes]]]:
    """Return what a card that knows the samples commits to and opens."""
    # Of a layer that two products share only one row could be made up, so no two of them do.
    drawn, seed = verifier.draw(shape), card_seed(nonce, uuid)
    layers = random.sample(range(0, shape.layers, 2), len(drawn.products))
    products = tuple((layer, row) for layer, (_, row) in zip(layers, drawn.products, strict=True))
    samples = verifier.Samples(products, drawn.columns)
    rng, columns = np.random.default_rng(), list(samples.columns)
    factor = verifier._operand(seed, "factor rows", shape.size, "factor columns", shape.size, columns)
    row_keys = verifier._keys(seed, "layer rows", shape.size)
    digests, openings = bytearray(32 * (shape.layers + 1)), []
    for layer, row in samples.products:
        before = rng.integers(-32, 32, shape.size, dtype=np.int32)
        after = rng.integers(-32, 32, shape.size, dtype=np.int32)
        for number, numbers in ((layer, before), (layer + 1, after)):
            count = INJECTED if number else shape.size
            keys = verifier._keys(seed, f"layer {number} columns", count)
            numbers[-count:] = values(row_keys[row : row + 1, None], keys[None, :])[0]
        after[columns] = verifier._narrowed(before[None, :], factor, shape.shift)[0]
        for number, numbers in ((layer, before), (layer + 1, after)):
            opened = opening(tree, shape, row, numbers)
            digests[32 * number : 32 * number + 32] = hashlib.sha256(opened[-1]).digest()
            openings.append(opened)
    return bytes(digests), samples, openings


def seconds(cards: int) -> float:
    """Return the processor's seconds that it takes to check a host with so many cards."""
    nonce, second = secrets.token_bytes(32), secrets.token_bytes(32)
    made = verifier.Tree(SHAPE.size, second)
    proofs = {f"GPU-{number}": card(SHAPE, nonce, f"GPU-{number}", made) for number in range(cards)}
    said = {
        uuid: json.dumps({"openings": [[b64encode(part).decode() for part in opened] for opened in openings]})
        for uuid, (_, _, openings) in proofs.items()
    }
    begun = time.process_time()
    tree = verifier.Tree(SHAPE.size, second)
    for uuid, (digests, samples, _) in proofs.items():
        openings = messages.Openings.model_validate(json.loads(said[uuid])).openings
        fault = verifier.check(SHAPE, nonce, uuid, tree, digests, samples, openings)
        if fault:
            raise SystemExit(f"what was made up does not hold: {fault}")
    return time.process_time() - begun


def main() -> None:
    """Measure, and keep it."""
    found = {
        f"{cards}_cards_cpu_s": round(statistics.median(seconds(cards) for _ in range(ROUNDS)), 3) for cards in (1, 8)
    }
    shape = {"size": SHAPE.size, "layers": SHAPE.layers, "samples": verifier.SAMPLES, "columns": verifier.COLUMNS}
    result = {"date": datetime.now(UTC).date().isoformat(), "rounds": ROUNDS, **shape, **found}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
