"""What a program says on stderr: its last words are kept, everything before them is read and dropped."""

from __future__ import annotations

import threading
from typing import IO

MOST = 4096
"""Bytes that are kept."""
GRACE = 1.0
"""Seconds that the words of a program that has ended may take to arrive."""


class LastWords:
    """The end of what comes through a pipe."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe = pipe
        self.kept = b""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def __str__(self) -> str:
        """Return the last words; of a program that goes on, those so far."""
        self.reader.join(GRACE)
        return self.kept.decode(errors="replace")

    def _read(self) -> None:
        with self.pipe:
            while data := self.pipe.read1(MOST):  # type: ignore[attr-defined]
                self.kept = (self.kept + data)[-MOST:]
