"""The executor's environment: upstream's names, defaults and (few) checks."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from the real environment, then from ``.env``; names are case-insensitive, unknown ones are ignored.

    Only types are checked, as upstream does: a blank number fails the start, a blank or wrong address passes.
    """

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore")

    internal_port: int = 8001
    external_port: int = 8001
    ssh_port: int = 2200
    ssh_public_port: int | None = None
    renting_port_range: str | None = None
    renting_port_mappings: str | None = None
    renting_price: float | None = None
    miner_hotkey_ss58_address: str
    db_uri: str
    env: str = "dev"
