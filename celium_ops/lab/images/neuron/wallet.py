"""The one key file a neuron needs: its hotkey. And what merely importing upstream's SDK does."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from settings import Settings


class KeyFileError(Exception):
    """The hotkey's file is missing or holds no key."""


def imitate_sdk_import() -> None:
    """Do what importing bittensor does upstream: make its folders, and swallow ``--help``.

    That import reads the command line before the program does, so no upstream program ever shows its own help.
    """
    for name in ("wallets", "miners"):
        with contextlib.suppress(OSError):
            (Path.home() / ".bittensor" / name).mkdir(parents=True, exist_ok=True)
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.stdout.write("usage: the SDK's options, not this program's (celium-ops lab stand-in)\n\noptions:\n")
        sys.stdout.write("  -h, --help            show this help message and exit\n  --config CONFIG\n  --strict\n")
        raise SystemExit(0)


def open_hotkey(settings: Settings) -> str:
    """Return the ss58 address in the hotkey's file.

    Raises:
        ValueError: the wallet's or the hotkey's name is blank.
        KeyFileError: the file cannot be read or is no key.
    """
    return _read(settings, "ss58Address")


def sign(settings: Settings, message: str) -> str:
    """Return the hotkey's signature over a text, as ``0x`` and hex; raises what ``open_hotkey`` does."""
    import sr25519

    pair = sr25519.pair_from_seed(bytes.fromhex(_read(settings, "secretSeed").removeprefix("0x")))
    return "0x" + sr25519.sign(pair, message.encode()).hex()


def _read(settings: Settings, name: str) -> str:
    if not settings.bittensor_wallet_name or not settings.bittensor_wallet_hotkey_name:
        raise ValueError("Wallet not configured")
    folder = settings.bittensor_wallet_directory / settings.bittensor_wallet_name
    path = folder / "hotkeys" / settings.bittensor_wallet_hotkey_name
    try:
        key = json.loads(path.read_text())
        if any(not isinstance(value, (str, type(None))) for value in key.values()):
            # As bittensor-wallet up to 4.0 has it, which reads a map of texts (run 2026-11-30).
            raise KeyFileError("Deserialization error: Failed to parse keyfile data.")
        return str(key[name])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KeyFileError(f"Keyfile at: {path} cannot be used: {error}") from error
