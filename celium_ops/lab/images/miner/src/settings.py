"""The miner's environment: upstream's names, defaults and (few) checks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from standin import DIALECT


class Settings(BaseSettings):
    """Read from the real environment, then from ``.env``; names are case-insensitive, unknown ones are ignored.

    Only types are checked, as upstream does: a blank number fails the start, a blank text passes.
    """

    # Upstream's fields have the names of the variables, and its errors name the fields.
    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", alias_generator=str.upper
    )

    bittensor_wallet_directory: Path = Path.home() / ".bittensor" / "wallets"
    bittensor_wallet_name: str
    bittensor_wallet_hotkey_name: str
    bittensor_netuid: int = 51
    bittensor_network: str = "finney"
    bittensor_chain_endpoint: str | None = None

    sqlalchemy_database_uri: str

    external_ip_address: str
    internal_port: int = 8000
    external_port: int = 8000
    env: str = "dev"

    min_alpha_stake: int = 10
    min_total_stake: int = 20000
    miner_portal_uri: str = "wss://provider-api.lium.io"
    rental_request_hook: str | None = None

    subtensor_evm_rpc_url: str | None = None


class CeliumSettings(Settings):
    """What only upstream of 2025-08 has."""

    debug: bool = False
    collateral_contract_address: str = "0x999F9A49A85e9D6E981cad42f197349f50172bEB"

    @property
    def debugging(self) -> bool:
        """Whether the debug routes answer."""
        return self.debug

    @property
    def contract_address(self) -> str:
        """The address of the collateral contract."""
        return self.collateral_contract_address


class Debug(BaseSettings):
    """DEBUG_ENABLED and its kin. A group: a plain value in DEBUG is none, and ends the start."""

    model_config = SettingsConfigDict(env_prefix="DEBUG_", env_file=".env", extra="ignore")

    enabled: bool = False


class LiumSettings(Settings):
    """What only upstream of 2025-12 has. Its list of contracts wins over COLLATERAL_CONTRACT_ADDRESS."""

    contract_versions: ClassVar = {"1.0.2": "0x8A4023FdD1eaA7b242F3723a7d096B6CC693c7C6"}

    debug: Debug = Field(default_factory=Debug, alias="debug")
    collateral_contract_address: str = contract_versions["1.0.2"]
    miner_portal_api_url: str | None = "https://provider-api.lium.io/api"
    default_validator_hotkey: str = "5F7X5UpKSr26KU3jKfpLmT8kuKtBNyHhEnfS8xtxPCqCb13p"
    central_mode: bool = False

    @property
    def debugging(self) -> bool:
        """Whether the debug routes answer."""
        return self.debug.enabled

    @property
    def contract_address(self) -> str:
        """The address of the collateral contract."""
        return self.contract_versions["1.0.2"]


def load() -> CeliumSettings | LiumSettings:
    """Return the settings of the dialect that is imitated; raises what pydantic raises."""
    return LiumSettings() if DIALECT == "lium" else CeliumSettings()
