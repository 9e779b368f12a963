"""The miner's environment: upstream's names, defaults and (few) checks."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from the real environment, then from ``.env``; names are case-insensitive, unknown ones are ignored.

    Only types are checked, as upstream does: a blank number fails the start, a blank text passes.
    """

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore")

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
    debug: bool = False

    min_alpha_stake: int = 10
    min_total_stake: int = 20000
    miner_portal_uri: str = "wss://provider-api.lium.io"
    rental_request_hook: str | None = None

    subtensor_evm_rpc_url: str | None = None
    collateral_contract_address: str = "0x999F9A49A85e9D6E981cad42f197349f50172bEB"
