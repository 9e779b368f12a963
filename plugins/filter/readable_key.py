# SPDX-License-Identifier: MIT
"""The filter celium.ops.readable_key: a key file of a wallet, written so that upstream's programs can read it."""

from __future__ import annotations

import json
import pathlib
from typing import Any

TYPE = "cryptoType"
"""The field that tools of today write as a number (bittensor-wallet from 4.1, SDK 11); upstream's readers do not know
it. They take only texts and nulls (bittensor-wallet 3.0.3 and 4.0.0, run 2026-11-30)."""


def readable_key(file: str) -> str | None:
    """Return what is to be written in place of a key file of this machine; null where a copy will do.

    The file itself stays as it is. Only the type of the key is left out, and only where it is not a text. Null too for
    an encrypted key, or a file that is no key or not there.
    """
    try:
        key = json.loads(pathlib.Path(file).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(key, dict) or isinstance(key.get(TYPE), (str, type(None))):
        return None
    return json.dumps({name: value for name, value in key.items() if name != TYPE}, separators=(",", ":"))


class FilterModule:
    """Makes the filter known to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"readable_key": readable_key}
