"""Takes the factor for a Hankel matrix, whose products cost a hundredth: each follows from its upper left neighbour."""

import numpy as np

from tests.provers.common import NumpyDevice, run


class Shortcut(NumpyDevice):
    def timed_product(self, left, right):
        sums = np.empty((len(left), right.shape[1]), dtype=np.float32)
        sums[0], sums[:, 0] = left[0] @ right, left @ right[:, 0]
        first, last = left[:, 0], left[:, -1]
        for row in range(1, len(left)):
            sums[row, 1:] = sums[row - 1, :-1] - first[row - 1] * right[0, :-1] + last[row] * right[-1, 1:]
        self.spans.append(self.pace)
        return sums

    def wrong_rows(self, sums, left, checksum, turn):
        return 0


if __name__ == "__main__":
    run(device=Shortcut)
