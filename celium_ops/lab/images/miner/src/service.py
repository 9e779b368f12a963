"""What the command line does, in upstream's words: handled failures are logged, never turned into an exit code."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import collateral
from collateral import WEI_PER_TAO
from sqlalchemy.exc import SQLAlchemyError
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
    private_key: str | None

    @property
    def is_wanted(self) -> bool:
        """Whether enough was given to mean a deposit."""
        return self.amount is not None or bool(self.gpu_type and self.gpu_count)


class Service:
    """The commands of the miner.

    Args:
        settings: the miner's environment; its hotkey is opened at once, as every command of upstream does.
    """

    def __init__(self, settings: CeliumSettings | LiumSettings) -> None:
        self.settings = settings
        self.hotkey = open_hotkey(settings)
        self.store = Store(settings.sqlalchemy_database_uri)

    def add_executor(self, address: str, port: int, deposit: Deposit, **values: object) -> None:
        """Insert an executor, then pay its collateral when asked to."""
        if deposit.is_wanted and not deposit.private_key:
            logger.error("Private key is required to deposit collateral")
            return
        key = self._insert(address=address, port=port, **values)
        if key:
            logger.info("Added executor (id=%s)", key)
            if not deposit.is_wanted:
                logger.info("No deposit amount provided, skipping deposit.")
        if key and (not deposit.is_wanted or self.deposit(address, port, deposit.private_key or "")):
            logger.info("Added executor and deposited collateral successfully")
        else:
            logger.error("Failed to add executor or deposit collateral")

    def _insert(self, **values: object) -> UUID | None:
        """Insert a row without looking at the executor; None when the database refuses it."""
        try:
            return self.store.add(**values)
        except SQLAlchemyError as error:
            logger.error("Failed to add executor: %s", error)
            return None

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
        logger.info("Switching validator(%s) of an executor (%s:%s)", validator, address, port)
        try:
            self.store.set(self._executor(address, port).uuid, "validator", validator)
        except (SQLAlchemyError, LookupError) as error:
            logger.error("Failed in switching validator: %s", error)
            return
        logger.info("Successfully switched validator for executor (%s:%s)", address, port)

    def remove_executor(self, address: str, port: int) -> None:
        """Delete an executor's row, if nothing is held against it."""
        try:
            key = self._executor(address, port).uuid
            if self._may_go(key):
                self.store.remove(key)
                logger.info("Removed an executor(%s:%s)", address, port)
                logger.info("Removed executor (%s:%s)", address, port)
                return
        except (SQLAlchemyError, LookupError, collateral.UnreachableError) as error:
            logger.error("Failed in removing an executor: %s", error)
        logger.error("Failed in removing an executor.")

    def _may_go(self, _key: UUID) -> bool:
        """Whether an executor may be removed: whatever collateral it has."""
        return True

    def deposit(self, address: str, port: int, private_key: str) -> bool:
        """Try to pay collateral; nothing in the lab takes it."""
        try:
            self._executor(address, port)
            self._transact(private_key)
        except (SQLAlchemyError, LookupError, ValueError, collateral.UnreachableError) as error:
            logger.error("Failed to deposit collateral: %s", error)
            return False
        return True

    def transact(self, what: str, private_key: str) -> None:
        """Try a transaction of another kind; nothing in the lab takes it."""
        try:
            self._transact(private_key)
        except (ValueError, collateral.UnreachableError) as error:
            logger.error("Failed to %s: %s", what, error)

    def _transact(self, private_key: str) -> None:
        collateral.evm_address(private_key)
        collateral.rpc(self.settings, "eth_chainId")
        raise collateral.UnreachableError("the lab's stand-in sends no transactions")

    def show_miner_collateral(self) -> None:
        """Log what the contract holds for the whole miner."""
        try:
            amount = self._collateral(*(row.uuid.bytes for row in self.store.executors()))
        except (SQLAlchemyError, collateral.UnreachableError) as error:
            logger.error("Failed to get miner collateral: %s", error)
            return
        logger.info("Total miner collateral: %f TAO", amount)

    def show_executor_collateral(self, address: str, port: int) -> None:
        """Log what the contract holds for one executor."""
        try:
            key = self._executor(address, port).uuid
            amount = self._collateral(key.bytes)
        except (SQLAlchemyError, LookupError, collateral.UnreachableError) as error:
            logger.error("Failed to get executor collateral: %s", error)
            return
        logger.info("Executor %s collateral: %f TAO from collateral contract", key, amount)

    def show_reclaim_requests(self) -> None:
        """Log the open reclaims of the contract; a stub has none."""
        try:
            collateral.rpc(self.settings, "eth_blockNumber")
        except collateral.UnreachableError as error:
            logger.error("Failed to get reclaim requests: %s", error)
            return
        logger.info("No reclaim requests")

    def show_associated_evm_address(self) -> None:
        """Ask the chain, which is not there. Upstream handles no error here, so neither do we."""
        raise ConnectionError("the lab has no chain to ask for the EVM address of the hotkey " + self.hotkey)

    def show_evm_balance(self, private_key: str) -> None:
        """Log the balance of the Ethereum address of a private key."""
        try:
            address = "0x" + collateral.evm_address(private_key).hex()
            balance = int(collateral.rpc(self.settings, "eth_getBalance", address, "latest"), 16)
        except (ValueError, collateral.UnreachableError) as error:
            logger.error("Failed to get the balance of the ethereum address: %s", error)
            return
        logger.info("Balance of %s: %f TAO", address, balance / WEI_PER_TAO)

    def _executor(self, address: str, port: int) -> Row:
        row = self.store.find(address, port)
        if row is None:
            raise LookupError("Not found executor")
        return row

    def _collateral(self, *keys: bytes) -> float:
        """Return TAO; one question per executor, and one at least, so that an absent endpoint shows."""
        question = "collaterals(bytes16)"
        return sum(collateral.contract_number(self.settings, question, key) for key in keys or (b"",)) / WEI_PER_TAO
