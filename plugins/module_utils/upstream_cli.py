# SPDX-License-Identifier: MIT
"""The command line of upstream's miner: how it is called, and what to make of its answers.

Its exit code says success even when it failed, so whoever calls it looks at the rows afterwards. Our Ansible modules
import it, and the command line feeds its source to ``python3`` on the host, as it does with ``probe``.
"""

from __future__ import annotations

import json
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
# Characters of an explanation, of one error in it, of a log line that is looked at, and how many lines are: in some
# stands what an executor answered, which may be anything.
LONGEST, LONGEST_ERROR, LONGEST_LINE, MOST_LINES = 400, 200, 100000, 20
# With it an executor answers a request that its own miner has not signed.
UNAUTHORIZED = 401
# So many characters of an endpoint's address may be its key.
SECRET = 6
# An address, up to where it ends in an error; and how requests names the path of one whose host stands before it.
URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*)://([^\s'\"]*)")
URL_PATH = re.compile(r"(with url: )/[^\s'\"]*")
HOST = re.compile(r"[\w.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


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
        # Upstream's words have signs that the host's own encoding may lack.
        done = subprocess.run(
            arguments,
            input=answers,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"ERROR:docker:upstream's {COMMANDS[action]} did not end in {timeout} s"
    return done.stderr or f"upstream's {COMMANDS[action]} said nothing (exit {done.returncode})"


def explanation(said):
    """Return the errors in what upstream's command line logged, else its last line, as one short line; pure.

    Upstream logs ``text >>> {json}``. Of the JSON only the error and the status are kept, since another field is the
    address of an EVM endpoint, and such an address may hold a key.
    """
    lines = [line[:LONGEST_LINE] for line in said.splitlines() if line.strip()]
    logged = [line.split(":", 2)[-1] for line in lines if line.startswith("ERROR:")]
    errors = []
    for error in map(_readable, logged[:MOST_LINES]):
        # After an error with its reason upstream says once more, without one, that it failed.
        if not any(known.startswith(error.rstrip(".")) for known in errors):
            errors.append(error)
    # Upstream of 2025-12 tries the executor before it adds it, and does not say so when the login failed.
    tested = "Testing executor connectivity" in said
    if tested and "Connectivity test passed" not in said and "Failed to send SSH key" not in said:
        errors.append("the executor's API answers the miner, but its SSH port does not let it in (executor_ssh_port)")
    found = "; ".join(errors) or (_readable(lines[-1]) if lines else "")
    return _cut(found, LONGEST)


def _cut(text, longest):
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _readable(line):
    """Return the words of a log line with its error and its status, in one line and without secrets."""
    text, mark, tail = line.partition(" >>> ")
    fields = _fields(tail)
    if not tail.lstrip().startswith("{"):
        text += mark + tail
    status, error = fields.get("status"), fields.get("error")
    words = [text.lstrip("\u274c\u2705 ")]
    if status == UNAUTHORIZED:
        words.append("it obeys another hotkey (status 401)")
    else:
        words += [f"status {status}"] if type(status) is int else []
        words += [error] if isinstance(error, str) and error else []
    said = _without_secrets(": ".join(words), fields.get("rpc_url"))
    return _cut(" ".join("".join(sign if sign.isprintable() else " " for sign in said).split()), LONGEST_ERROR)


def _fields(text):
    """Return the fields of a log line; none when they are no JSON object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _without_secrets(text, rpc_url):
    """Return a text that names addresses by their host alone: a user, a path or a query may be a secret."""
    text = URL_PATH.sub(r"\1...", URL.sub(lambda found: _host_of(*found.groups()), text))
    # The endpoint's key may also stand alone.
    scheme, _, rest = rpc_url.partition("://") if isinstance(rpc_url, str) else ("", "", "")
    host = _host_of(scheme, rest).partition("://")[2]
    for part in sorted(re.split(r"[/?#&=:@]+", rest), key=len, reverse=True):
        text = text.replace(part, "...") if len(part) >= SECRET and part not in host else text
    return text


def _host_of(scheme, rest):
    """Return an address up to its host."""
    host = re.split(r"[/?#]", rest.rpartition("@")[2], maxsplit=1)[0]
    return f"{scheme}://{host if HOST.fullmatch(host) else '...'}"


def collateral(said, uuid):
    """Return the TAO that the contract holds for an executor, or None when upstream did not say; pure.

    The words are upstream's of 2025-08, read in its source.
    """
    return _amount(f"Executor {re.escape(uuid)} collateral", said)


def total_collateral(said):
    """Return the TAO that the contract holds for all executors of a miner, or None when upstream did not say; pure."""
    return _amount("Total miner collateral from all executors", said)


def collaterals(rows):
    """Return what the contract holds for each row of a miner of dialect celium, as ``(unreadable, amounts)``.

    ``unreadable`` says why nothing is known of any row, None when the total was read. Each of ``amounts`` is the TAO
    and None, or None and why it could not be read. Most miners have no collateral at all, which is one question.
    """
    said = call("total", None, "celium")
    total = total_collateral(said)
    if total is None:
        return _unread(said), []
    if not total:
        return None, [(0.0, None)] * len(rows)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return None, list(pool.map(_ask_for, rows))


def _ask_for(row):
    said = call("collateral", row, "celium")
    amount = collateral(said, row["uuid"])
    return amount, _unread(said) if amount is None else None


def _unread(said):
    return f"upstream said: {explanation(said)}"


def _amount(what, said):
    """Return the one amount that whole lines say; None when there is none, or when they contradict each other."""
    number = r"([0-9]{1,15}(?:\.[0-9]{1,18})?)"
    line = rf"^(?:INFO:[^:\n]*:)?{what}: {number} TAO(?: from collateral contract)?[ \t\r]*$"
    found = set(re.findall(line, said, re.MULTILINE))
    return float(found.pop()) if len(found) == 1 else None
