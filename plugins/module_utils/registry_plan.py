# SPDX-License-Identifier: MIT
"""What is to be done with a miner's registry, and whether it may be: pure.

Executors and rows are dictionaries; both have ``address`` and ``port``, which the miner's database keeps unique.
"""

from __future__ import annotations

import hashlib
import math
import re

UNREGISTERED = "unregistered"
"""What a plan expects that saw no row for an executor; a hotkey is never that."""
LIUM_VALIDATOR = "5F7X5UpKSr26KU3jKfpLmT8kuKtBNyHhEnfS8xtxPCqCb13p"
"""The only validator that a miner of dialect lium accepts unless it is told of another one (2025-12)."""
SHOWN = 5
_ADDRESS = re.compile(r"[0-9A-Za-z]([0-9A-Za-z.:_-]*[0-9A-Za-z])?")
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def endpoint(entry):
    """Return (address, port)."""
    return entry["address"], entry["port"]


def place(entry):
    """Return address and port for people."""
    return "{address}:{port}".format(**entry)


def by_endpoint(rows):
    """Return the rows of the registry by endpoint."""
    return {endpoint(row): row for row in rows}


def of_dialect(executor, dialect, default_validator):
    """Return an executor with what a miner of this dialect keeps of it: a validator of its own, or a price.

    In dialect lium a row keeps its validator while the inventory names none for the miner, unless an assignment, which
    says what it expects, moves the row to the one that the miner accepts then.
    """
    if dialect == "celium":
        return {**executor, "price": None}
    moved = executor["expected"] is not None and executor["validator"] == LIUM_VALIDATOR
    return {**executor, "validator": default_validator or (LIUM_VALIDATOR if moved else None)}


def refused(executor, row, dialect, default_validator):
    """Return whether a miner of dialect lium does not accept the validator of a row that is not to be switched."""
    if row is None or dialect == "celium" or ("switch" in executor["actions"] and not executor["error"]):
        return False
    return row["validator"] != (default_validator or LIUM_VALIDATOR)


def flaws(executors, absent):
    """Return what is wrong with what was asked for, whatever the registry holds: upstream would store anything."""
    found, seen = [], set()
    for executor in executors:
        found += [f"{executor['name']}: {flaw}" for flaw in _flaws(executor)]
    for entry in [*executors, *absent]:
        if endpoint(entry) in seen:
            found.append(f"{place(entry)} is named twice")
        seen.add(endpoint(entry))
    return found


def _flaws(executor):
    if not _ADDRESS.fullmatch(executor["address"]):
        yield f"{executor['address']!r} is no address"
    if not 1 <= executor["port"] <= 65535:
        yield f"{executor['port']} is no port (1 to 65535)"
    if executor["validator"] and not is_hotkey(executor["validator"]):
        yield f"{executor['validator']!r} is no hotkey (an ss58 address; its checksum is wrong)"
    if executor["price"] is not None and not (math.isfinite(executor["price"]) and executor["price"] >= 0):
        yield f"{executor['price']} is no price"


def is_hotkey(text):
    """Tell whether a text is an ss58 address of a Bittensor key: a type byte, 32 bytes of key, 2 of checksum."""
    if not text.startswith("5") or len(text) > 50 or set(text) - set(_BASE58):
        return False
    number = 0
    for character in text:
        number = number * 58 + _BASE58.index(character)
    raw = number.to_bytes(37, "big").lstrip(b"\0")
    checksum = hashlib.blake2b(b"SS58PRE" + raw[:-2]).digest()[:2]
    return len(raw) == 35 and raw[0] == 42 and raw[-2:] == checksum


def surprises(executors, rows):
    """Return where the registry is neither what the plan saw nor what it wants; the latter is a run that goes on."""
    found = []
    for executor in executors:
        row, expected = rows.get(endpoint(executor)), executor["expected"]
        validator = row["validator"] if row else UNREGISTERED
        as_wanted = row and executor["validator"] in (None, validator)
        if expected not in (None, validator) and not as_wanted:
            found.append(f"{executor['name']} ({place(executor)}) is {_stands(validator)}, then {_stands(expected)}")
    return found


def _stands(validator):
    return "not registered" if validator == UNREGISTERED else f"registered for {validator}"


def planned(executor, row, dialect):
    """Return the actions an executor needs, none when it is fine, or ValueError when it cannot be done.

    A row is changed, never removed and added again: its uuid is the key of the collateral. Without a validator an
    executor keeps the one it has, and in dialect celium it is not registered when it has none.
    """
    if row is None and dialect == "celium":
        return ["add"] if executor["validator"] else []
    if row is None:
        if executor["price"] is None:
            raise ValueError("no executor_price is given, and upstream's command line wants one")
        return ["add"]
    actions = ["switch"] if executor["validator"] and executor["validator"] != row["validator"] else []
    if actions and executor["rented"]:
        raise ValueError(
            f"it is rented ({', '.join(executor['rented'])}), so it keeps its validator; "
            "deploy again when the rental has ended, or set celium_even_if_rented"
        )
    return actions + (["price"] if executor["price"] not in (None, row["price"]) else [])


def changes(executors, rows):
    """Return what the transaction writes for the executors that have a row: its uuid, validator and price, or null."""
    return [
        {
            "uuid": rows[endpoint(executor)]["uuid"],
            "validator": executor["validator"] if "switch" in executor["actions"] else None,
            "price": executor["price"] if "price" in executor["actions"] else None,
        }
        for executor in executors
    ]


def read_back(executor, rows, dialect):
    """Return what went wrong with an executor; a row as wanted clears whatever was said when it was changed."""
    row = rows.get(endpoint(executor))
    if row is None:
        return f"it is not in the registry; {executor['error'] or 'nothing was said about it'}"
    if planned(executor, row, dialect):
        return executor["error"] or f"it is still registered {shown(row)}"
    return None


def shown(row):
    """Return what a row says of its executor, for people."""
    price = "" if row["price"] is None else f" at {row['price']} USD per GPU and hour"
    return f"for {row['validator'] or 'the default validator'}{price}"


def difference(before, executors, removed):
    """Return the registry before and after, one row a line, of the executors that change and the rows that go."""
    lines = {"before": "", "after": ""}
    for executor in executors:
        row = before.get(endpoint(executor))
        lines["before"] += f"{place(executor)} {shown(row)}\n" if row else ""
        given = {key: executor[key] for key in ("validator", "price") if executor[key] is not None}
        lines["after"] += f"{place(executor)} {shown({**(row or executor), **given})}\n"
    for entry in removed:
        lines["before"] += f"{place(entry)} {shown(before[endpoint(entry)])}\n"
    return lines


def by_reason(results):
    """Return what went wrong as one text, each reason once, with the names it is true of."""
    names = {}
    for result in results:
        names.setdefault(result["error"], []).append(result["name"] or place(result))
    return "; ".join(f"{several(who, ', ')}: {reason}" for reason, who in names.items())


def several(things, separator="; "):
    """Return texts as one; of many only the first few."""
    rest = [f"and {len(things) - SHOWN} more"] if len(things) > SHOWN else []
    return separator.join(things[:SHOWN] + rest)
