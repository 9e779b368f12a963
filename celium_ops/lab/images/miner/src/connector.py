"""Stands in for the connector to the provider portal."""

from __future__ import annotations

import logging

from portal import keep_trying
from settings import load
from standin import announce
from wallet import imitate_sdk_import, open_hotkey


def main() -> None:
    """Keep trying for ever; wrong settings end it with 1."""
    logging.basicConfig(level=logging.INFO)
    announce("connector")
    imitate_sdk_import()
    settings = load()
    keep_trying(f"{settings.miner_portal_uri}/api/miners/{open_hotkey(settings)}")


if __name__ == "__main__":
    main()
