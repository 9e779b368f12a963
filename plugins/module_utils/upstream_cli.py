# SPDX-License-Identifier: MIT
"""The command line of upstream's miner: how it is called, and what to make of its answers.

Its exit code says success even when it failed, so whoever calls it looks at the rows afterwards. Our Ansible modules
import it, and the command line feeds its source to ``python3`` on the host, as it does with ``probe``.
"""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

CONTAINER = "miner-miner-1"
COMMANDS = {
    "add": "add-executor",
    "remove": "remove-executor",
    "collateral": "get-executor-collateral",
    "total": "get-miner-collateral",
}
# Seconds. It needs 2 to 3; to find an executor dead up to 12, and a node of the chain that does not answer 57.
TIMEOUTS = {"add": 60, "remove": 120, "collateral": 120, "total": 120}
AT_ONCE = 4


def command(action, executor, dialect):
    """Return the arguments and the answers on stdin for one action; pure."""
    options = ["--address", executor["address"], "--port", str(executor["port"])] if executor else []
    # A missing option becomes a prompt. In dialect lium a new row gets the miner's default validator.
    if action == "add" and dialect == "celium":
        options += ["--validator", executor["validator"]]
    elif action == "add":
        options += ["--price", str(executor["price"])]
    # It asks whether we are sure; since 2025-12 also for the version of the contract, and knows one.
    answers = "y\n" if action == "remove" else ""
    answers += "1\n" if action != "add" and dialect == "lium" else ""
    program = ["docker", "exec", "-i", CONTAINER, "pdm", "run", "/root/app/src/cli.py"]
    return [*program, COMMANDS[action], *options], answers


def call(action, executor, dialect):
    """Run one action and return what upstream logged of it."""
    arguments, answers = command(action, executor, dialect)
    timeout = TIMEOUTS[action]
    try:
        done = subprocess.run(arguments, input=answers, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return f"ERROR:docker:upstream's {COMMANDS[action]} did not end in {timeout} s"
    return done.stderr or f"upstream's {COMMANDS[action]} said nothing (exit {done.returncode})"


def explanation(said):
    """Return the errors in what upstream's command line logged, else its last line; pure."""
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line.split(":", 2)[-1].strip() for line in lines if line.startswith("ERROR:")]
    # Upstream of 2025-12 tries the executor before it adds it, and does not say so when the login failed.
    tested = "Testing executor connectivity" in said
    if tested and "Connectivity test passed" not in said and "Failed to send SSH key" not in said:
        errors.append("the executor's API answers the miner, but its SSH port does not let it in (executor_ssh_port)")
    return "; ".join(errors) or (lines[-1] if lines else "")


def collateral(said, uuid):
    """Return the TAO that the contract holds for an executor, or None when upstream did not say; pure.

    The words are upstream's of 2025-08, read in its source.
    """
    return _amount(rf"Executor {re.escape(uuid)} collateral", said)


def collaterals(rows):
    """Return the TAO that the contract holds for each row of a miner of dialect celium; None when nobody can tell.

    Most miners have none at all, which is one question.
    """
    total = _amount("Total miner collateral", call("total", None, "celium"))
    if not total:
        return [total] * len(rows)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda row: collateral(call("collateral", row, "celium"), row["uuid"]), rows))


def _amount(what, said):
    found = re.search(rf"{what}: (\d+(?:\.\d+)?) TAO", said)
    return float(found.group(1)) if found else None
