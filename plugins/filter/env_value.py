"""The filter celium.ops.env_value: how a value is written in a .env file."""

from __future__ import annotations

import json
import re
from typing import Any

PLAIN = re.compile(r"[\w./:@,%+=~-]+", re.ASCII)


def env_value(value: Any) -> str:
    """Return a value so that Compose's env_file hands it to the container as it is.

    Plain text stays bare, since older readers of .env files know no quotes. Single quotes keep everything as it is but
    a quote itself; double quotes take backslash escapes and would replace $NAME. Lists and dicts become JSON, booleans
    true or false.

    Raises:
        ValueError: the value holds a line break or a NUL; no environment file can carry it.
    """
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    if re.search(r"[\n\0]", text):
        raise ValueError("a line break or NUL cannot stand in an environment file")
    if PLAIN.fullmatch(text):
        return text
    if "'" not in text and "\\" not in text:
        return f"'{text}'"
    escaped = re.sub(r'(["\\$])', r"\\\1", text)
    return f'"{escaped}"'


class FilterModule:
    """Makes the filter known to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"env_value": env_value}
