"""What can be known of a wallet on this machine before any of it is copied to a host. Only addresses are read out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class WalletFault:
    """Something wrong with a wallet: ``about`` says which of the inventory's values it is about."""

    severity: Literal["error", "warning"]
    about: Literal["wallet_source", "hotkey_ss58"]
    message: str
    expected: str


def wallet_faults(wallet: Path, hotkey: str, address: str | None) -> Iterator[WalletFault]:
    """Yield what is wrong with a wallet that a deploy would copy a hotkey from.

    Args:
        wallet: the wallet's folder, ``hotkeys`` and ``coldkeypub.txt`` in it.
        hotkey: the name of the hotkey.
        address: the address that the inventory gives the hotkey; null if it gives none.
    """
    file, coldkey = wallet / "hotkeys" / hotkey, _address(wallet / "coldkeypub.txt")
    if not file.is_file():
        message = f"there is no hotkey file {file} on this machine"
        yield WalletFault("error", "wallet_source", message, "a folder of wallets that holds the hotkey")
        return
    own = _address(file)
    if own is None:
        message = f"{file} is not a key that can be read; an encrypted one does not work on a host"
        yield WalletFault("error", "wallet_source", message, "a hotkey file without a password")
    elif own == coldkey:
        yield WalletFault(
            "error", "wallet_source", f"{file} is the coldkey", "the hotkey; a coldkey belongs on no host"
        )
    elif address and address == coldkey:
        message = f"{address} is the address of the coldkey"
        yield WalletFault("error", "hotkey_ss58", message, f"the hotkey's: {own}")
    elif address and own != address:
        yield WalletFault("error", "hotkey_ss58", f"{address} is not the key in {file}", f"the hotkey's: {own}")
    if (wallet / "coldkey").exists():
        message = f"{wallet / 'coldkey'} stands beside the hotkey; it is never copied, but does not belong here"
        yield WalletFault("warning", "wallet_source", message, "a coldkey that is kept offline")


def _address(key: Path) -> str | None:
    """Return the ss58 address in a key file; null when it holds none, as an encrypted one."""
    try:
        address = json.loads(key.read_text())["ss58Address"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(address)
