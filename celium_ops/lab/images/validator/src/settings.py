"""The validator's environment: upstream's names, defaults and (few) checks."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from standin import DIALECT


class Settings(BaseSettings):
    """Read from the real environment, then from ``.env``; names are case-insensitive, unknown ones are ignored.

    Only types are checked, as upstream does: a blank number fails the start, a blank text passes. There is no setting
    for a password of Redis.
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
    subtensor_evm_rpc_url: str | None = None

    sqlalchemy_database_uri: str
    async_sqlalchemy_database_uri: str
    redis_host: str = "localhost"
    redis_port: int = 6379

    internal_port: int = 8000
    compute_app_uri: str = "wss://lium.io"
    compute_rest_api_url: str | None = "https://lium.io/api"
    tao_price_api_url: str = "https://api.coingecko.com/api/v3/coins/bittensor"
    env: str = "dev"


class CeliumSettings(Settings):
    """What only upstream of 2025-08 has."""

    debug: bool = False
    collateral_contract_address: str = "0x999F9A49A85e9D6E981cad42f197349f50172bEB"


class Debug(BaseModel):
    """A group of settings: a plain value in ``DEBUG`` is none, and ends the start."""

    enabled: bool = False


class LiumSettings(Settings):
    """What only upstream of 2025-12 has."""

    debug: Debug = Field(default=Debug(), alias="debug")
    collateral_contract_address: str = "0x8A4023FdD1eaA7b242F3723a7d096B6CC693c7C6"
    miner_portal_rest_api_url: str = "https://provider-api.lium.io/"
    skip_rental_verification: bool = False
    use_rest_api: bool = False
    machine_max_price_rate: float = 2.0


def load() -> Settings:
    """Return the settings of the dialect that is imitated; raises what pydantic raises."""
    return LiumSettings() if DIALECT == "lium" else CeliumSettings()
