"""What runs on a host and what our roles left there, in one go: fed to ``python3`` with ``probe`` and ``managed``.

It only reads, unless it is given a seal for the host's record. It prints one JSON object after a mark, since the login
shell of a host may have said something before.
"""

from __future__ import annotations

import json
import sys

import managed
import probe

QUICK = 5
"""Seconds that an engine may take for an answer; one that hangs is asked once."""


class Docker:
    """The engine's answers, each asked for once, as two modules ask the same."""

    def __init__(self) -> None:
        self.ask = probe.docker
        self.known: dict[str, object] = {}
        self.dead: OSError | None = None

    def __call__(self, path: str, timeout: int = QUICK) -> object:
        """Return the engine's answer to GET ``path``."""
        if self.dead:
            raise self.dead
        try:
            if path not in self.known:
                self.known[path] = self.ask(path, timeout)
        except OSError as error:
            self.dead = error
            raise
        return self.known[path]


def look(asked: dict[str, object]) -> dict[str, object]:
    """Return what this host shows; what could not be read is null, with the reason in ``errors``."""
    probe.docker = Docker()
    seen: dict[str, object] = {"record": None, "record_error": None, "chain": None}
    seen.update(probe.probe(asked["role"], asked["stack"]))
    try:
        seen["record"] = managed.check(asked["seal"])
    except Exception as error:  # what cannot be compared shall not hide the rest
        seen["record_error"] = f"its record cannot be compared: {error}"
    if asked["log"]:
        seen["chain"] = chain()
    return seen


def chain() -> object:
    """Return the message of the miner's log that it cannot use the chain; null where there is none, or no log."""
    import miner_log  # comes along where it is asked for

    try:
        return miner_log.chain_trouble()
    except (OSError, ValueError, KeyError):  # an engine that does not answer is among the errors already
        return None


if __name__ == "__main__":
    sys.stdout.write(globals()["ASKED"]["mark"] + json.dumps(look(globals()["ASKED"])))
