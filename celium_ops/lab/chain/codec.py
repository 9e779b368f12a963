"""Python values to the chain's wire format (SCALE), by the runtime's own metadata, with the SDK's own codec."""

from __future__ import annotations

import json
from typing import Any

import bittensor_core

from celium_ops.lab.chain.metadata import Recording

_SS58_FORMAT = 42
_NOBODY = "5C4hrfjw9DjXZTzV3MwzrrAr9P1MJhSrvWGWqi1eSuyUpnhM"
"""The address of 32 zero bytes."""


class Codec:
    """The encoder of one runtime.

    A type is named as the metadata names it: ``scale_info::NUMBER``.
    """

    def __init__(self, recording: Recording) -> None:
        self.metadata = recording.metadata
        self.spec_version = recording.spec_version
        self.transaction_version = recording.transaction_version
        self._runtime = bittensor_core.Runtime(
            recording.metadata, recording.spec_version, recording.transaction_version, _SS58_FORMAT
        )
        self._types = {entry["id"]: entry["type"] for entry in json.loads(self._runtime.registry_json())["types"]}
        self._apis = self._runtime.runtime_api_map()

    def encode(self, type_name: str, value: Any) -> bytes:
        """Return a value as bytes. ``None`` is the absent value of an option."""
        return b"\0" if value is None else bytes(self._runtime.encode(type_name, value))

    def decode(self, type_name: str, data: bytes) -> Any:
        """Return the value that the bytes hold."""
        return self._runtime.decode(type_name, data, True)

    def answer_type(self, api: str, method: str) -> str:
        """Return the type that a method of a runtime API answers with."""
        name: str = self._apis[api][method]["output"]
        return name

    def storage_key(self, pallet: str, item: str, *parameters: Any) -> str:
        """Return the key under which the chain stores an item, as hex."""
        return "0x" + bytes(self._runtime.storage_key(pallet, item, list(parameters))).hex()

    def storage_value(self, pallet: str, item: str, value: Any) -> str:
        """Return what is stored for a value of an item, as hex."""
        return "0x" + self.encode(self.storage_type(pallet, item), value).hex()

    def storage_type(self, pallet: str, item: str) -> str:
        """Return the type of an item's values."""
        name: str = self._runtime.storage_entry(pallet, item).value_type
        return name

    def blank(self, type_name: str) -> Any:
        """Return the emptiest value of a type: zeros, empty lists; of an option, the emptiest thing it may hold."""
        number = int(type_name.partition("::")[2])
        held = self._types[number]["def"]["variant"]["variants"][1]["fields"][0]["type"]
        return self._blank(held)

    def _blank(self, number: int) -> Any:
        entry = self._types[number]
        ((kind, definition),) = entry["def"].items()
        name = (entry.get("path") or [""])[-1]
        if name == "AccountId32":
            return _NOBODY
        if name == "Option":
            return None
        if kind == "composite":
            return self._blank_fields(definition["fields"])
        if kind == "compact":
            return self._blank(definition["type"])
        return [] if kind == "sequence" else {"bool": False, "str": ""}.get(definition, 0)

    def _blank_fields(self, fields: list[dict[str, Any]]) -> Any:
        if fields and not fields[0].get("name"):
            return self._blank(fields[0]["type"])
        return {field["name"]: self._blank(field["type"]) for field in fields}
