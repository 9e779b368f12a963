"""What the collateral contract holds for the executors of a miner, by the miner's own command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from celium_ops.base.paths import collection_dir
from celium_ops.fleet.model import Connection
from celium_ops.remote.ssh import ask

_SECONDS = 130.0
_SECONDS_EACH = 2.0
"""Upstream's command line takes longer, but several are asked at once."""
_LONGEST = 400
"""Characters of a reason; a host may send any number."""


@dataclass(frozen=True)
class Amount:
    """The TAO that the contract holds for one executor; None when it could not be read, and ``why``."""

    tao: float | None
    why: str | None = None


@dataclass(frozen=True)
class Amounts:
    """What was found out about the executors asked for, in their order.

    ``unreadable`` is why nothing is known of any executor of the miner, None when there are amounts.
    """

    amounts: tuple[Amount, ...] = ()
    unreadable: str | None = None


def _one_line(text: Any) -> Any:
    """Return a text of a host cut, with blanks for what is not printable."""
    if not isinstance(text, str):
        return text
    return "".join(sign if sign.isprintable() else " " for sign in text[:_LONGEST])


_Tao = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
_Reason = Annotated[str, BeforeValidator(_one_line)]
_ANSWER: TypeAdapter[tuple[_Reason | None, list[tuple[_Tao | None, _Reason | None]]]] = TypeAdapter(
    tuple[_Reason | None, list[tuple[_Tao | None, _Reason | None]]]
)


def collaterals(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> Amounts:
    """Read the collateral of each row (address, port, uuid) of a miner of dialect celium."""
    source = (collection_dir() / "plugins" / "module_utils" / "upstream_cli.py").read_text()
    asked = json.dumps(rows)
    # After the program comes the question: as an argument it would be too long for a large fleet.
    script = f"{source}\nimport sys\njson.dump(collaterals(json.loads({asked!r})), sys.stdout)\n"
    command = ["python3", "-I", "-S", "-"]
    answer = ask({"miner": connection}, {"miner": command}, script, _SECONDS + _SECONDS_EACH * len(rows))["miner"]
    if answer.output is None:
        return Amounts(unreadable=_one_line(answer.error or "the miner's host did not answer"))
    return read(answer.output, len(rows))


def read(output: str, count: int) -> Amounts:
    """Parse the answer of a host about ``count`` rows; any other answer counts as unreadable; pure."""
    try:
        unreadable, amounts = _ANSWER.validate_json(output)
    except ValidationError:
        unreadable, amounts = None, []
    if unreadable is None and len(amounts) != count:
        return Amounts(unreadable="the miner's host gave no usable answer")
    return Amounts(tuple(Amount(tao, why) for tao, why in amounts), unreadable)
