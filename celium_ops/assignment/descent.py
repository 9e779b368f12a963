"""Good counts for executors of unequal weight: down from where they are, one move or one exchange at a time."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence

Transfer = tuple[int, int, int, int]  # from, to, the weight that goes, the weight that comes back (0: nothing does)


class Descent:
    """Rows of one weight are alike, so the state is how many of each weight every i has.

    A transfer of net weight w from v to u changes the sum by ``2 * w * scale * (surplus[u] - surplus[v] + w * scale)``.
    Each one that is made lowers the sum, so this ends, and from where it ends it does nothing.

    Args:
        need: what i lacks while it has none of these rows, ``scale`` for each unit of weight.
        scale: what one unit of weight is, above 0.
        floor: the least number of rows that i keeps once it has them.
    """

    def __init__(self, need: Sequence[int], scale: int, floor: Sequence[int]) -> None:
        self.surplus = [-lack for lack in need]
        self.scale = scale
        self.floor = floor
        self.has: list[Counter[int]] = [Counter() for _ in need]
        self.weights: list[list[int]] = [[] for _ in need]

    def put(self, i: int, weight: int) -> None:
        """Give i a row."""
        if not self.has[i][weight]:
            insort(self.weights[i], weight)
        self.has[i][weight] += 1
        self.surplus[i] += weight * self.scale

    def take(self, i: int, weight: int) -> None:
        """Take a row from i."""
        self.has[i][weight] -= 1
        if not self.has[i][weight]:
            self.weights[i].remove(weight)
        self.surplus[i] -= weight * self.scale

    def fill(self, homeless: Counter[int]) -> None:
        """Give every i its floor, then place the homeless rows, the heaviest first, where they help most."""
        waiting = homeless.copy()
        for i, least in enumerate(self.floor):
            while self.has[i].total() < least:
                self._reach_out(i, waiting)
        for weight in sorted(waiting.elements(), reverse=True):
            self.put(self.surplus.index(min(self.surplus)), weight)

    def _reach_out(self, i: int, waiting: Counter[int]) -> None:
        """Give i a light row: one that waits, else one of who has most and can spare it."""
        if waiting.total():
            weight = min(+waiting)
            waiting[weight] -= 1
        else:
            v = max((v for v in range(len(self.has)) if self._can_spare(v)), key=self.surplus.__getitem__)
            weight = self.weights[v][0]
            self.take(v, weight)
        self.put(i, weight)

    def descend(self) -> None:
        """Make the best move or exchange until none lowers the sum: between the two extremes while that does."""
        while True:
            extremes = self.surplus.index(max(self.surplus)), self.surplus.index(min(self.surplus))
            found = self._best_between(*extremes) or self._best()
            if found is None:
                return
            v, u, goes, back = found
            self.take(v, goes)
            self.put(u, goes)
            if back:
                self.take(u, back)
                self.put(v, back)

    def _best(self) -> Transfer | None:
        everyone = range(len(self.surplus))
        found = (self._best_between(v, u) for v in everyone for u in everyone if self.surplus[v] > self.surplus[u])
        return max((one for one in found if one), key=self._gain, default=None)

    def _best_between(self, v: int, u: int) -> Transfer | None:
        """Return the transfer from v to u that lowers the sum most: its net weight is near half of what parts them."""
        best, most = None, 0
        half = (self.surplus[v] - self.surplus[u]) // (2 * self.scale)
        backs = [0, *self.weights[u]] if self._can_spare(v) else self.weights[u]
        for goes in self.weights[v]:
            near = bisect_left(backs, goes - half)
            for back in backs[max(near - 1, 0) : near + 1]:
                gain = self._gain((v, u, goes, back))
                if gain > most:
                    best, most = (v, u, goes, back), gain
        return best

    def _can_spare(self, v: int) -> bool:
        return self.has[v].total() > self.floor[v]

    def _gain(self, transfer: Transfer) -> int:
        v, u, goes, back = transfer
        net = goes - back
        return net * (self.surplus[v] - self.surplus[u] - net * self.scale)
