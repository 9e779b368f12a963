"""The lab's wallets: hotkeys in bittensor's own format, made once; a coldkey is nowhere, as on a real host."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

HOTKEY = "default"
PINNED = "validator-1"
"""The validator that the lab's executors are pinned to; its wallet is there even when its host is not."""


def wallet_name(host: str) -> str:
    """Return the name of the wallet of a host, a miner or a validator."""
    return f"lab-{host}"


def ensure_wallet(folder: Path, name: str) -> str:
    """Return the ss58 address of the hotkey ``default`` of a wallet, made when it is missing.

    Files have mode 0600 and folders 0700. The coldkey's address in ``coldkeypub.txt`` is valid, but nobody has its
    private key: it is thrown away here.
    """
    hotkey = folder / name / "hotkeys" / HOTKEY
    if not (hotkey.exists() and (folder / name / "coldkeypub.txt").exists()):
        _make(folder, name, hotkey)
    address: str = json.loads(hotkey.read_text())["ss58Address"]
    return address


def _make(folder: Path, name: str, hotkey: Path) -> None:
    # Both are slow to import, and needed once in a lab's life.
    from bittensor import Wallet
    from bittensor.sp_core import Keypair

    # The SDK prints, and what it prints is no answer of ours.
    with contextlib.redirect_stdout(io.StringIO()):
        wallet = Wallet(name=name, hotkey=HOTKEY, path=str(folder))
        coldkey = Keypair.create_from_mnemonic(Keypair.generate_mnemonic(12))
        wallet.regenerate_coldkeypub(ss58_address=coldkey.ss58_address, overwrite=True)
        if not hotkey.exists():
            wallet.create_new_hotkey(suppress=True, overwrite=True)
