"""The executor's environment: upstream's names, defaults and (few) checks."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict
from standin import DIALECT

PROJECT = "compute-subnet-executor"


class Settings(BaseSettings):
    """Read from the real environment, then from ``.env``; names are case-insensitive, unknown ones are ignored.

    Only types are checked, as upstream does: a blank number fails the start, a blank or wrong address passes.
    """

    # Upstream's fields have the names of the variables, and its errors name the fields.
    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", alias_generator=str.upper
    )

    internal_port: int = 8001
    external_port: int = 8001
    ssh_port: int = 2200
    ssh_public_port: int | None = None
    renting_port_range: str | None = None
    renting_port_mappings: str | None = None
    miner_hotkey_ss58_address: str
    db_uri: str
    env: str = "dev"


class CeliumSettings(Settings):
    """What only upstream of 2025-08 has: the executor keeps its price."""

    renting_price: float | None = None

    @property
    def hotkeys(self) -> tuple[str, ...]:
        """Whose signatures count."""
        return (self.miner_hotkey_ss58_address,)


class LiumSettings(Settings):
    """What only upstream of 2025-12 has: keys of Lium's own whose signatures count as well."""

    default_miner_hotkey: str = "5D4jX4TqUkZwNwKAjjYrbk2FHFNN2U1TgFF6ZMuNPnjnKJVU"
    allowed_hotkey_ss58_address: str = "5E1nK3myeWNWrmffVaH76f2mCFCbe9VcHGwgkfdcD7k3E8D1"

    @property
    def hotkeys(self) -> tuple[str, ...]:
        """Whose signatures count."""
        return (self.miner_hotkey_ss58_address, self.default_miner_hotkey)


def load() -> CeliumSettings | LiumSettings:
    """Return the settings of the dialect that is imitated; raises what pydantic raises."""
    return LiumSettings() if DIALECT == "lium" else CeliumSettings()
