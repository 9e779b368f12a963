"""The best counts, exactly: equal units are shared out so that the sum of squares is least, then the moves."""

from __future__ import annotations

from collections.abc import Sequence


def apportion(need: Sequence[int], step: int, units: int, floor: Sequence[int], held: Sequence[int]) -> list[int]:
    """Share ``units`` out, exactly and whatever their number.

    The k-th unit on i lowers the sum by ``step * (2 * need[i] - (2k - 1) * step)``: less for every further one. So the
    ``units`` of them with the highest ``need[i] - k * step`` are the best choice (above ``floor``, which is not
    a choice). A level is sought by bisection that leaves too few above it and enough at it; those at it are equally
    good, each i has one at most, and the ones that spare a move go first.

    Args:
        need: what i lacks before the first unit; the least sum is of ``(need[i] - step * x[i]) ** 2``.
        step: what one unit is, above 0, in the units of ``need``.
        units: how many there are, at least the sum of ``floor``.
        floor: the least that i gets.
        held: what i has today: a unit beyond it is a move. Units that are equally good in this too go to the first i.

    Returns:
        x, as long as ``need``, with the sum ``units``.
    """

    def above(level: int) -> list[int]:
        return [max(least, (lack - level) // step) for lack, least in zip(need, floor, strict=True)]

    enough, few = min(need) - step * units, max(need)
    while few - enough > 1:
        middle = (few + enough) // 2
        if sum(above(middle)) > units:
            enough = middle
        else:
            few = middle
    counts = above(few)
    level = [i for i, (more, less) in enumerate(zip(above(enough), counts, strict=True)) if more > less]
    level.sort(key=lambda i: held[i] <= counts[i])
    for i in level[: units - sum(counts)]:
        counts[i] += 1
    return counts


def settle(held: Sequence[Sequence[str]], homeless: Sequence[str], counts: Sequence[int]) -> list[list[str]]:
    """Turn counts into names with the fewest moves: each i keeps what it holds as far as it may, the rest is filled up.

    Args:
        held: the names at i today.
        homeless: the names that have to go somewhere.
        counts: how many i gets; their sum is the number of all names.

    Returns:
        The names at i.
    """
    kept = [list(names[:count]) for names, count in zip(held, counts, strict=True)]
    left = [name for names, count in zip(held, counts, strict=True) for name in names[count:]]
    waiting = iter([*left, *homeless])
    for names, count in zip(kept, counts, strict=True):
        names.extend(next(waiting) for _ in range(count - len(names)))
    return kept
