"""What a command on a host is connected with here: where its output goes, and where its input comes from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol
from urllib.parse import quote

HIDDEN = b"***"


class Sink(Protocol):
    """Where output goes, byte for byte."""

    def write(self, data: bytes, /) -> object:
        """Take some bytes; an OSError says that nobody wants more."""


@dataclass(frozen=True)
class Streams:
    """Two sinks, and a descriptor to read from, if any; with ``terminal`` the command gets a terminal like ours."""

    out: Sink
    err: Sink
    stdin: int | None = None
    terminal: bool = False


@dataclass(frozen=True)
class Descriptor:
    """A sink that writes at once."""

    number: int

    def write(self, data: bytes, /) -> None:
        """Write all of it."""
        while data:
            data = data[os.write(self.number, data) :]


class Masked:
    """A sink that hides secrets, line by line, before another sink gets them."""

    def __init__(self, sink: Sink, secrets: Iterable[str]) -> None:
        self.sink = sink
        forms = {form.encode() for secret in secrets if secret for form in (secret, quote(secret, safe=""))}
        self.secrets = sorted(forms, key=len, reverse=True)
        self.begun = b""

    def write(self, data: bytes, /) -> None:
        """Pass on the lines that are complete."""
        lines, newline, self.begun = (self.begun + data).rpartition(b"\n")
        self._pass(lines + newline)

    def end(self) -> None:
        """Pass on a last line without an end."""
        self._pass(self.begun)
        self.begun = b""

    def _pass(self, data: bytes) -> None:
        for secret in self.secrets:
            data = data.replace(secret, HIDDEN)
        if data:
            self.sink.write(data)


def live() -> Streams:
    """Return our own stdin, stdout and stderr."""
    return Streams(Descriptor(1), Descriptor(2), 0, terminal=os.isatty(0) and os.isatty(1))


def captured() -> tuple[Streams, BytesIO, BytesIO]:
    """Return streams that keep the output, and where they keep it; there is no input."""
    out, err = BytesIO(), BytesIO()
    return Streams(out, err), out, err
