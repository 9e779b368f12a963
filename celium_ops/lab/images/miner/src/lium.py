"""What the command line of upstream of 2025-12 does differently."""

from __future__ import annotations

import http.client
import json
import logging
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from service import Service, structured
from sqlalchemy.exc import SQLAlchemyError
from store import Store
from wallet import sign

if TYPE_CHECKING:
    from settings import LiumSettings
    from sqlalchemy import Row

logger = logging.getLogger()
connectivity = logging.getLogger("services.executor_service")

TIMEOUT_SECONDS = 10
"""For each request, and for the SSH connection."""

_NEEDED = ("ssh_username", "ssh_port", "python_path", "root_dir")
"""What the answer to an upload must hold."""
_OLD_VALIDATOR = "5E1nK3myeWNWrmffVaH76f2mCFCbe9VcHGwgkfdcD7k3E8D1"


class LiumService(Service):
    """The commands of the miner: prices, a look at an executor before it is added, collateral that binds."""

    settings: LiumSettings

    def _insert(self, **values: Any) -> UUID | None:
        """Insert a row when the executor lets a key of ours in; of what went wrong little is said."""
        if values["validator"] is None:
            values["validator"] = self.settings.default_validator_hotkey
        key, address, port = uuid4(), values["address"], values["port"]
        try:
            if self.store.find(address, port):
                return None
        except SQLAlchemyError:
            # Upstream takes any trouble here for "not there", and finds it again when it inserts.
            pass
        connectivity.info("Testing executor connectivity at %s:%d...", address, port)
        if not _lets_us_in(self.settings, address, port, key):
            return None
        connectivity.info("✅ Connectivity test passed - proceeding to save executor")
        try:
            self.store.add(uuid=key, **values)
        except SQLAlchemyError as error:
            fields = {"executor_id": key, "address": address, "port": port, "validator": values["validator"]}
            connectivity.error(structured("❌ Failed to add executor", **fields, error=str(error)))
            return None
        connectivity.info("Added executor (id=%s)", key)
        return key

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
            logger.error("❌ Failed to update executor price.")
            return
        logger.info("✅ Successfully updated price for executor %s:%s to %s USD/hour", address, port, price)
        logger.info("✅ Successfully updated executor price.")


def migrate_validator_hotkey(settings: LiumSettings) -> None:
    """Give the executors of the first validator of all to the default one. Upstream handles no error here."""
    count = Store(settings.sqlalchemy_database_uri).move(_OLD_VALIDATOR, settings.default_validator_hotkey)
    logger.info("Found %d miners with validator %s", count, _OLD_VALIDATOR)
    logger.info("Migration completed. Updated %d miners", count)


def _lets_us_in(settings: LiumSettings, address: str, port: int, executor: UUID) -> bool:
    """Tell whether an executor takes a new key, lets it in over SSH, and gives it up again."""
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
        public = key.with_suffix(".pub").read_text().strip()
        place = {"executor_id": executor, "executor_address": address, "executor_port": port}
        answer = _upload(settings, {**place, "url": f"http://{address}:{port}/upload_ssh_key"}, public)
        if answer is None:
            connectivity.error("Failed to send SSH key - Please check if executor ip address and port are correct")
            return False
        login = _login(key, address, answer["ssh_port"], answer["ssh_username"])
        _remove(settings, {**place, "url": f"http://{address}:{port}/remove_ssh_key"}, public)
    # Upstream does not say that it was SSH.
    return login


def _upload(settings: LiumSettings, place: dict[str, Any], public: str) -> dict[str, Any] | None:
    """Send a key and return how to log in; None when it is not taken, which is logged with its reason."""
    connectivity.info(_with_task("Sending pubkey to executor", **place))
    failed = "API request failed to register SSH key"
    try:
        answer = _send(settings, place["url"], public)
        if missing := [name for name in _NEEDED if name not in answer]:
            raise ValueError(f"Field required: {', '.join(missing)}")
    except urllib.error.HTTPError as error:
        words = error.read().decode(errors="replace")
        connectivity.error(_with_task(f"{failed} - HTTP error", **place, status=error.code, error=words))
        return None
    except (OSError, TypeError, ValueError, http.client.HTTPException) as error:
        connectivity.error(_with_task(f"{failed} - request exception", **place, error=str(error)))
        return None
    connectivity.info(_with_task("Received response from executor", **place, response=answer))
    return answer


def _remove(settings: LiumSettings, place: dict[str, Any], public: str) -> None:
    connectivity.info(_with_task("Removing pubkey from executor", **place))
    try:
        _send(settings, place["url"], public)
    except urllib.error.HTTPError as error:
        connectivity.error(_with_task("API request failed to register SSH key", **place, status=error.code))
    except (OSError, ValueError, http.client.HTTPException) as error:
        connectivity.error(_with_task("API request failed to register SSH key", **place, error=str(error)))


def _with_task(message: str, **fields: object) -> str:
    """Return a log line with the fields that upstream adds of its asynchronous task."""
    return structured(message, coro_name="add_executor", task_id=id(fields), **fields)


def _send(settings: LiumSettings, url: str, public: str) -> Any:
    """Send a key, signed, and return the answer; raises what goes wrong."""
    body = {"public_key": public, "data_to_sign": public, "signature": sign(settings, public)}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 -- the operator's address
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 -- as above
        return json.load(answer)


def _login(key: Path, address: str, port: int, user: str) -> bool:
    options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
    options += [f"ConnectTimeout={TIMEOUT_SECONDS}", "IdentitiesOnly=yes"]
    command = ["ssh", "-F", "none", "-i", str(key), "-p", str(port), *(f"-o{option}" for option in options)]
    done = subprocess.run([*command, f"{user}@{address}", "true"], capture_output=True, check=False)
    return done.returncode == 0
