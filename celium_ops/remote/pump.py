"""Carries bytes between our streams and a command on a host, and ends the command when we go.

fabric's own runner keeps all output in memory, joins it anew at each piece, and reads stdin at 100 bytes a second.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from celium_ops.base.errors import CeliumError
from celium_ops.remote.ssh import as_root
from celium_ops.remote.streams import Sink, Streams

if TYPE_CHECKING:
    import paramiko

CHUNK = 65536
UNWANTED = 0
"""The exit code of a command that was ended because nobody reads its output any more, as with ``| head``."""


class Pump:
    """One command on one channel; it runs once."""

    def __init__(self, channel: paramiko.Channel, streams: Streams) -> None:
        self.channel = channel
        self.streams = streams
        self.unwanted = False

    def run(self, command: list[str]) -> int | None:
        """Run the command as root and return its exit code; null when a signal ended it.

        Without a terminal the command ends when we do, however we do; with one, its terminal hangs up.

        Raises:
            CeliumError: the connection was lost.
            KeyboardInterrupt: ctrl-c; the command was told to end.
        """
        with self._terminal() if self.streams.terminal else nullcontext():
            self.channel.exec_command(self._line(command))
            pipes = ((self.channel.recv, self.streams.out), (self.channel.recv_stderr, self.streams.err))
            carriers = [threading.Thread(target=self._carry, args=pipe, daemon=True) for pipe in pipes]
            for thread in [*carriers, threading.Thread(target=self._feed, daemon=True)]:
                thread.start()
            try:
                for thread in carriers:
                    thread.join()
            except KeyboardInterrupt:
                self.channel.close()
                raise
        return self._exit_code()

    def _line(self, command: list[str]) -> str:
        if self.streams.terminal:
            # The shell stays, so that a command that ctrl-c ends has an exit code.
            return f"trap : INT; TERM={shlex.quote(_terminal_type())}; export TERM; ({as_root(command)})"
        leash = (Path(__file__).parent / "on_host" / "leash.py").read_text()
        return as_root(["python3", "-I", "-S", "-c", leash, *command])

    def _carry(self, read: Callable[[int], bytes], sink: Sink) -> None:
        try:
            while data := read(CHUNK):
                sink.write(data)
        except OSError:
            self.unwanted = True
            self.channel.close()

    def _feed(self) -> None:
        stdin = self.streams.stdin
        with suppress(OSError):  # the command has closed its stdin, or has ended
            while stdin is not None and not self.channel.closed:
                if select.select([stdin], [], [], 0.2)[0]:
                    data = os.read(stdin, CHUNK)
                    if not data:
                        break
                    self.channel.sendall(data)
            self.channel.shutdown_write()

    def _exit_code(self) -> int | None:
        code: int = self.channel.recv_exit_status()
        if code >= 0 or self.unwanted:
            return max(code, UNWANTED)
        if not self.channel.get_transport().is_active():
            raise CeliumError("the connection was lost", remedy="celium-ops status shows what is there", code="lost")
        return None

    @contextmanager
    def _terminal(self) -> Iterator[None]:
        """Give the command a terminal like ours, and ours to the command: every key goes there, ctrl-c too."""
        stdin = self.streams.stdin or 0
        before = termios.tcgetattr(stdin)
        self.channel.get_pty(_terminal_type(), *os.get_terminal_size(stdin))
        resize = signal.signal(signal.SIGWINCH, lambda *_: self.channel.resize_pty(*os.get_terminal_size(stdin)))
        tty.setraw(stdin)
        try:
            yield
        finally:
            termios.tcsetattr(stdin, termios.TCSADRAIN, before)
            signal.signal(signal.SIGWINCH, resize)


def _terminal_type() -> str:
    return os.environ.get("TERM", "vt100")
