"""The miner's command line with upstream's commands, options, prompts, streams and exit codes.

Answers are log lines on stderr, prompts go to stdout, and a handled failure ends with 0. Alone among the stand-ins it
does not say what it is: what it prints is its interface, and an empty table must give no output.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, TypeVar

import click
import collateral
from lium import LiumService, migrate_validator_hotkey
from service import Deposit, Service
from settings import load
from standin import DIALECT
from wallet import imitate_sdk_import

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., None]")

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger(__name__)

_ADDRESS = click.option("--address", prompt="IP Address", help="Address of the executor")
_PORT = click.option("--port", type=int, prompt="Port", help="Port of the executor's API")
_VALIDATOR = click.option("--validator", prompt="Validator Hotkey", help="Hotkey of the validator that may use it")
_PRICE = click.option("--price", "price_per_gpu", type=float, prompt="GPU price per hour (USD)", help="Its price")
_PRIVATE_KEY = click.option(
    "--private-key", prompt="Ethereum Private Key", hide_input=True, help="Ethereum private key"
)
_UNEXPECTED = "This may lead to unexpected results"


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Put several options on a command, in reading order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_LIUM = DIALECT == "lium"
_NEW_EXECUTOR = (
    # Whoever is not named is the default validator.
    (_ADDRESS, _PORT, _PRICE, click.option("--validator", help="Hotkey of the validator that may use it"))
    if _LIUM
    else (_ADDRESS, _PORT, _VALIDATOR)
)


def _service(private_key: str | None = None) -> Service:
    settings = click.get_current_context().obj
    return LiumService(settings, private_key) if _LIUM else Service(settings, private_key)


def _contract_service(private_key: str | None = None) -> Service:
    """Return the service for a command that asks the contract: upstream of 2025-12 wants to know of which version."""
    if _LIUM:
        _choose_contract()
    return _service(private_key)


def _choose_contract() -> None:
    versions = click.get_current_context().obj.contract_versions
    _show_contracts()
    while True:
        choice = click.prompt(f"\nSelect contract version (1-{len(versions)})", type=int)
        if 1 <= choice <= len(versions):
            logger.info("Selected version: %s", list(versions)[choice - 1])
            return
        logger.error("Invalid choice. Please select between 1 and %d", len(versions))


def _show_contracts() -> None:
    for number, (version, address) in enumerate(click.get_current_context().obj.contract_versions.items(), 1):
        click.echo(f"{number}  {version}  {address}")


class _Commands(click.Group):
    """A group that says what it has when no command is given, as the version of click does that upstream locks."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take 8.2 for dialect lium, where this is an error, and 8.1 for celium, where it is none."""
        if _LIUM and not args:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)


@click.group(cls=_Commands)
def cli() -> None:
    """Manage the executors of a miner (celium-ops lab stand-in, not the real neuron)."""


@cli.command("add-executor")
@_options(*_NEW_EXECUTOR)
@click.option("--gpu-type", help="GPU model, for the deposit")
@click.option("--gpu-count", type=int, help="Number of GPUs, for the deposit")
@click.option("--deposit-amount", type=float, help="TAO to deposit")
@click.option("--private-key", help="Ethereum private key that pays the deposit")
def add_executor(
    address: str,
    port: int,
    gpu_type: str | None,
    gpu_count: int | None,
    deposit_amount: float | None,
    private_key: str | None,
    **values: object,
) -> None:
    """Add an executor, and pay its collateral when the deposit's options are given."""
    deposit = Deposit(gpu_type, gpu_count, deposit_amount)
    if deposit.is_wanted and not private_key:
        logger.error("Private key is required to deposit collateral.")
        return
    _service(private_key).add_executor(address, port, deposit, **values)


@cli.command("remove-executor")
@_options(_ADDRESS, _PORT)
def remove_executor(address: str, port: int) -> None:
    """Remove an executor."""
    if click.confirm(f"Are you sure you want to remove this executor? {_UNEXPECTED}"):
        _contract_service().remove_executor(address, port)
    else:
        logger.info("Executor removal cancelled.")


@cli.command("show-executors")
def show_executors() -> None:
    """Show the executors."""
    _service().show_executors()


@cli.command("switch-validator")
@_options(_ADDRESS, _PORT, _VALIDATOR)
def switch_validator(address: str, port: int, validator: str) -> None:
    """Give an executor to another validator."""
    if click.confirm(f"Are you sure you want to switch validator? {_UNEXPECTED}"):
        logger.info("Switching validator(%s) of an executor (%s:%d)", validator, address, port)
        _service().switch_validator(address, port, validator)
    else:
        logger.info("Cancelled.")


@cli.command("deposit-collateral")
@_options(_ADDRESS, _PORT)
@click.option("--gpu-type", prompt="GPU Type")
@click.option("--gpu-count", type=int, prompt="GPU Count")
@click.option("--deposit-amount", type=float, help="TAO to deposit; computed from the GPUs when absent")
@_PRIVATE_KEY
def deposit_collateral(address: str, port: int, private_key: str, **_amount: object) -> None:
    """Pay the collateral of an executor."""
    if not _service(private_key).deposit(address, port):
        logger.error("❌ Failed to deposit collateral.")


@cli.command("reclaim-collateral")
@click.option("--executor_uuid", prompt="Executor UUID")
@_PRIVATE_KEY
def reclaim_collateral(executor_uuid: str, private_key: str) -> None:  # noqa: ARG001 -- nothing is held to reclaim
    """Open the reclaim of an executor's collateral."""
    _contract_service(private_key).transact("reclaim collateral")
    logger.error("❌ Failed to reclaim collateral.")


@cli.command("get-miner-collateral")
def get_miner_collateral() -> None:
    """Show the collateral of all executors."""
    _contract_service().show_miner_collateral()


@cli.command("get-executor-collateral")
@_options(_ADDRESS, _PORT)
def get_executor_collateral(address: str, port: int) -> None:
    """Show the collateral of an executor."""
    _contract_service().show_executor_collateral(address, port)


@cli.command("get-reclaim-requests")
def get_reclaim_requests() -> None:
    """Show the open reclaims."""
    _contract_service().show_reclaim_requests()


@cli.command("finalize-reclaim-request")
@click.option("--reclaim-request-id", type=int, prompt="Reclaim Request ID")
@_PRIVATE_KEY
def finalize_reclaim_request(reclaim_request_id: int, private_key: str) -> None:  # noqa: ARG001 -- as above
    """Finish a reclaim."""
    _contract_service(private_key).transact("finalize reclaim request")
    logger.error("❌ Failed to finalize reclaim request.")


@cli.command("associate-eth")
@_PRIVATE_KEY
def associate_eth(private_key: str) -> None:
    """Tie an Ethereum address to the hotkey."""
    _service(private_key).transact("associate")
    logger.error("❌ Failed to associate ethereum address with hotkey")


@cli.command("get-associated-evm-address")
def get_associated_evm_address() -> None:
    """Show the Ethereum address tied to the hotkey."""
    _service().show_associated_evm_address()


@cli.command("get-eth-ss58-address")
@_PRIVATE_KEY
def get_eth_ss58_address(private_key: str) -> None:
    """Print the chain address of an Ethereum address: the only answer that goes to stdout."""
    _service(private_key)
    click.echo(collateral.mirror_address(collateral.evm_address(private_key)))


@cli.command("transfer-tao-to-eth-address")
@click.option("--amount", type=float, help="Amount in TAO")
@_PRIVATE_KEY
def transfer_tao_to_eth_address(amount: float | None, private_key: str) -> None:
    """Send TAO to an Ethereum address; no amount is a failure like any other."""
    to = collateral.mirror_address(collateral.evm_address(private_key))
    _service(private_key).transact("transfer TAO to Ethereum SS58 address", amount=amount, to_address=to)


@cli.command("get-balance-of-eth-address")
@_PRIVATE_KEY
def get_balance_of_eth_address(private_key: str) -> None:
    """Show the balance of an Ethereum address."""
    _service(private_key).show_evm_balance()


# In the dialect celium these commands are not in the program.
_lium_command = cli.command if _LIUM else click.command


@_lium_command("update-executor-price")
@_options(_ADDRESS, _PORT, _PRICE)
def update_executor_price(address: str, port: int, price_per_gpu: float) -> None:
    """Change the price of an executor."""
    if price_per_gpu < 0:  # which NaN is not
        logger.error("❌ Price cannot be negative.")
        return
    LiumService(click.get_current_context().obj).update_price(address, port, price_per_gpu)


@_lium_command("show-contract-versions")
def show_contract_versions() -> None:
    """Show the versions of the collateral contract."""
    _show_contracts()


@_lium_command("current-contract-version")
def current_contract_version() -> None:
    """Show the address of the collateral contract in use."""
    click.echo(_service().settings.contract_address)


@_lium_command("migrate-validator-hotkey")
def migrate_validators() -> None:
    """Give the executors of a validator that has gone to the default one; every start does it."""
    migrate_validator_hotkey(click.get_current_context().obj)


if __name__ == "__main__":
    imitate_sdk_import()
    # Before any option is looked at: upstream's settings are read while its modules are imported.
    sys.exit(cli(obj=load()))
