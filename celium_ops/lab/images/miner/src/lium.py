"""What the command line of upstream of 2025-12 does differently."""

from __future__ import annotations

import http.client
import json
import logging
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service import Service
from sqlalchemy.exc import SQLAlchemyError
from store import Store
from wallet import sign

if TYPE_CHECKING:
    from uuid import UUID

    from settings import LiumSettings
    from sqlalchemy import Row

logger = logging.getLogger()
connectivity = logging.getLogger("services.executor_service")

TIMEOUT_SECONDS = 10
"""For each request, and for the SSH connection."""

_OLD_VALIDATOR = "5E1nK3myeWNWrmffVaH76f2mCFCbe9VcHGwgkfdcD7k3E8D1"


class LiumService(Service):
    """The commands of the miner: prices, a look at an executor before it is added, collateral that binds."""

    settings: LiumSettings

    def _insert(self, **values: Any) -> UUID | None:
        """Insert a row when the executor lets a key of ours in; of what went wrong little is said."""
        if values["validator"] is None:
            values["validator"] = self.settings.default_validator_hotkey
        address, port = values["address"], values["port"]
        try:
            if self.store.find(address, port):
                return None
        except SQLAlchemyError:
            # Upstream takes any trouble here for "not there", and finds it again when it inserts.
            pass
        connectivity.info("Testing executor connectivity at %s:%d...", address, port)
        if not _lets_us_in(self.settings, address, port):
            return None
        connectivity.info("Connectivity test passed - proceeding to save executor")
        return super()._insert(**values)

    def _serves(self, row: Row) -> str:
        return f"validator: {row.validator}, price_per_gpu (USD/gpu/h): {row.price_per_gpu}"

    def _may_go(self, key: UUID) -> bool:
        """Whether the contract holds nothing for an executor; that nobody answers is an error."""
        amount = self._collateral(key.bytes)
        if amount > 0:
            logger.error("Executor %s has collateral %f TAO, cannot remove", key, amount)
        return amount <= 0

    def update_price(self, address: str, port: int, price: float) -> None:
        """Write the price of an executor; the uuid stays."""
        try:
            self.store.set(self._executor(address, port).uuid, "price_per_gpu", price)
        except (SQLAlchemyError, LookupError) as error:
            logger.error("Failed to update executor price: %s", error)
            logger.error("Failed to update executor price.")
            return
        logger.info("Successfully updated price for executor %s:%s to %s USD/hour", address, port, price)
        logger.info("Successfully updated executor price.")


def migrate_validator_hotkey(settings: LiumSettings) -> None:
    """Give the executors of the first validator of all to the default one. Upstream handles no error here."""
    count = Store(settings.sqlalchemy_database_uri).move(_OLD_VALIDATOR, settings.default_validator_hotkey)
    logger.info("Found %d miners with validator %s", count, _OLD_VALIDATOR)
    logger.info("Migration completed. Updated %d miners", count)


def _lets_us_in(settings: LiumSettings, address: str, port: int) -> bool:
    """Tell whether an executor takes a new key, lets it in over SSH, and gives it up again."""
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
        public = key.with_suffix(".pub").read_text().strip()
        answer = _send(settings, f"http://{address}:{port}/upload_ssh_key", public)
        if answer is None:
            connectivity.error("Failed to send SSH key - check address and port of the executor")
            return False
        login = _login(key, address, answer["ssh_port"], answer["ssh_username"])
        _send(settings, f"http://{address}:{port}/remove_ssh_key", public)
    # Upstream does not say that it was SSH.
    return login


def _send(settings: LiumSettings, url: str, public: str) -> dict[str, Any] | None:
    """Send a key, signed; the answer is a mapping, empty when there is nothing to say, None when it was no success."""
    body = {"public_key": public, "data_to_sign": public, "signature": sign(settings, public)}
    headers = {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 -- the operator's address
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 -- as above
            return json.load(answer) or {}
    except (OSError, ValueError, http.client.HTTPException) as error:
        connectivity.error("API request failed to register SSH key: %s", error)
        return None


def _login(key: Path, address: str, port: int, user: str) -> bool:
    options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
    options += [f"ConnectTimeout={TIMEOUT_SECONDS}", "IdentitiesOnly=yes"]
    command = ["ssh", "-F", "none", "-i", str(key), "-p", str(port), *(f"-o{option}" for option in options)]
    done = subprocess.run([*command, f"{user}@{address}", "true"], capture_output=True, check=False)
    return done.returncode == 0
