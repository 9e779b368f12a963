"""What the command line does, in upstream's words: handled failures are logged, never turned into an exit code."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import collateral
from collateral import WEI_PER_TAO
from sqlalchemy.exc import SQLAlchemyError
from standin import DIALECT
from store import Store
from wallet import open_hotkey

if TYPE_CHECKING:
    from uuid import UUID

    from settings import CeliumSettings, LiumSettings
    from sqlalchemy import Row

logger = logging.getLogger()


@dataclass(frozen=True)
class Deposit:
    """The options that make ``add-executor`` pay collateral as well."""

    gpu_type: str | None
    gpu_count: int | None
    amount: float | None

    @property
    def is_wanted(self) -> bool:
        """Whether anything was given that means a deposit."""
        return (self.gpu_type, self.gpu_count, self.amount) != (None, None, None)

    @property
    def is_known(self) -> bool:
        """Whether the amount was given, or what upstream works it out from."""
        return self.amount is not None or None not in (self.gpu_type, self.gpu_count)


def structured(message: str, **fields: object) -> str:
    """Return a log line as upstream writes those that carry fields."""
    return f"{message} >>> {json.dumps(fields, default=str)}"


class Service:
    """The commands of the miner.

    Args:
        settings: the miner's environment; its hotkey is opened at once, as every command of upstream does.
        private_key: of an Ethereum address, for the commands that pay.
    """

    def __init__(self, settings: CeliumSettings | LiumSettings, private_key: str | None = None) -> None:
        self.settings = settings
        self.hotkey = open_hotkey(settings)
        self.private_key = private_key
        self.store = Store(settings.sqlalchemy_database_uri)
        for warning in collateral.warnings(settings, private_key):
            click.echo(warning)

    def _failed(self, what: str, error: object, **fields: object) -> None:
        """Log a failure with all that upstream puts into its log lines."""
        settings = self.settings
        extra = {
            "hotkey": self.hotkey,
            "netuid": settings.bittensor_netuid,
            "contract_address": settings.collateral_contract_address,
            "network": settings.bittensor_network,
            "rpc_url": settings.subtensor_evm_rpc_url,
        }
        logger.error(structured(f"❌ Failed {what}", **extra, **fields, error=str(error)))

    def add_executor(self, address: str, port: int, deposit: Deposit, **values: object) -> None:
        """Insert an executor, then pay its collateral when asked to."""
        key = self._insert(address=address, port=port, **values)
        if key and not deposit.is_wanted:
            logger.info("No deposit amount provided, skipping deposit.")
        if key and deposit.is_wanted and not deposit.is_known:
            logger.error("gpu_type and gpu_count must be specified if deposit_amount is not provided.")
        if key and (not deposit.is_wanted or (deposit.is_known and self.deposit(address, port))):
            logger.info("✅ Added executor and deposited collateral successfully.")
        else:
            logger.error("❌ Failed to add executor or deposit collateral.")

    def _insert(self, **values: object) -> UUID | None:
        """Insert a row without looking at the executor; None when the database refuses it."""
        try:
            key = self.store.add(**values)
        except SQLAlchemyError as error:
            logger.error("❌ Failed to add executor: %s", error)
            return None
        logger.info("Added executor (id=%s)", key)
        return key

    def show_executors(self) -> None:
        """Log one line per executor; an empty table gives no output at all."""
        try:
            for row in self.store.executors():
                logger.info("%s %s:%s -> %s", row.uuid, row.address, row.port, self._serves(row))
        except SQLAlchemyError as error:
            logger.error("Failed in showing an executor: %s", error)
            logger.error("Failed in showing executors.")

    def _serves(self, row: Row) -> str:
        """Return how a row says whom its executor serves."""
        return str(row.validator)

    def switch_validator(self, address: str, port: int, validator: str) -> None:
        """Write the validator of an executor, whatever it is; the uuid stays."""
        try:
            self.store.set(self._executor(address, port).uuid, "validator", validator)
        except (SQLAlchemyError, LookupError) as error:
            logger.error("Failed in switching validator: %s", error)
            return
        logger.info("✅ Successfully switched validator for executor %s:%d to %s", address, port, validator)

    def remove_executor(self, address: str, port: int) -> None:
        """Delete an executor's row, if nothing is held against it."""
        try:
            key = self._executor(address, port).uuid
            if self._may_go(key):
                self.store.remove(key)
                logger.info("Removed an executor(%s:%d)", address, port)
                logger.info("✅ Removed executor (%s:%d)", address, port)
                return
        except (SQLAlchemyError, LookupError, collateral.UnreachableError) as error:
            logger.error("Failed in removing an executor: %s", error)
        logger.error("❌ Failed in removing an executor.")

    def _may_go(self, _key: UUID) -> bool:
        """Whether an executor may be removed: whatever collateral it has."""
        return True

    def deposit(self, address: str, port: int) -> bool:
        """Try to pay collateral; nothing in the lab takes it."""
        try:
            self._executor(address, port)
            self._transact()
        except (SQLAlchemyError, LookupError, ValueError, collateral.UnreachableError) as error:
            self._failed("to deposit collateral", error)
            return False
        return True

    def transact(self, what: str, **fields: object) -> None:
        """Try a transaction of another kind; nothing in the lab takes it."""
        try:
            self._transact()
        except (ValueError, collateral.UnreachableError) as error:
            self._failed(f"to {what}", error, **fields)

    def _transact(self) -> None:
        collateral.evm_address(self.private_key or "")
        collateral.rpc(self.settings, "eth_chainId")
        raise collateral.UnreachableError("the lab's stand-in sends no transactions")

    def show_miner_collateral(self) -> None:
        """Log what the contract holds for each executor and for the whole miner, whose total without one is 0."""
        total = 0.0
        try:
            for row in self.store.executors():
                amount = self._collateral(row.uuid.bytes)
                logger.info("Executor %s collateral: %f TAO", row.uuid, amount)
                total += amount
        except (SQLAlchemyError, collateral.UnreachableError) as error:
            self._failed("in getting miner collateral", error)
            logger.error("❌ Failed in getting miner collateral.")
            return
        logger.info("Total miner collateral from all executors: %f TAO", total)

    def show_executor_collateral(self, address: str, port: int) -> None:
        """Log what the contract holds for one executor."""
        try:
            key = self._executor(address, port).uuid
            amount = self._collateral(key.bytes)
        except (SQLAlchemyError, LookupError, collateral.UnreachableError) as error:
            if DIALECT == "celium" and not isinstance(error, collateral.UnreachableError):
                logger.error("❌ Failed to find executor: %s", error)
            else:
                self._failed("to get executor collateral", error)
            logger.error("❌ Failed to get executor collateral.")
            return
        logger.info("Executor %s collateral: %f TAO from collateral contract", key, amount)

    def show_reclaim_requests(self) -> None:
        """Log the open reclaims of the contract; a stub has none."""
        try:
            collateral.rpc(self.settings, "eth_blockNumber")
        except collateral.UnreachableError as error:
            self._failed("to get miner reclaim requests", error)
            logger.error("❌ Failed to get miner reclaim requests.")
            return
        logger.info("[]")

    def show_associated_evm_address(self) -> None:
        """Ask the chain, which is not there. Upstream handles no error here, so neither do we."""
        raise ConnectionError("the lab has no chain to ask for the EVM address of the hotkey " + self.hotkey)

    def show_evm_balance(self) -> None:
        """Log the balance of the private key's Ethereum address. Upstream handles no error here, so neither do we."""
        address = "0x" + collateral.evm_address(self.private_key or "").hex()
        balance = int(collateral.rpc(self.settings, "eth_getBalance", address, "latest"), 16)
        logger.info("Balance of Eth address: %s TAO", balance / WEI_PER_TAO)

    def _executor(self, address: str, port: int) -> Row:
        row = self.store.find(address, port)
        if row is None:
            raise LookupError("Not found executor")
        return row

    def _collateral(self, key: bytes) -> float:
        """Return the TAO that the contract holds for an executor."""
        return collateral.contract_number(self.settings, "collaterals(bytes16)", key) / WEI_PER_TAO
