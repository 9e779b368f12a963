"""Stands in for the connector to the subnet's backend."""

from __future__ import annotations

import logging

from portal import keep_trying
from services import wait_for_services
from settings import load
from standin import announce
from wallet import imitate_sdk_import, open_hotkey


def main() -> None:
    """Keep trying for ever; wrong settings, no Redis or no Postgres end it with 1."""
    logging.basicConfig(level=logging.INFO)
    announce("connector")
    imitate_sdk_import()
    settings = load()
    wait_for_services(settings)
    keep_trying(f"{settings.compute_app_uri}/validator/{open_hotkey(settings)}")


if __name__ == "__main__":
    main()
