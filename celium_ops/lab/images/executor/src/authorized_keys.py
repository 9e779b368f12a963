"""The validators' keys: a text file that takes any text, as upstream's does."""

from __future__ import annotations

from pathlib import Path


def _file() -> Path:
    return Path.home() / ".ssh" / "authorized_keys"


def add(key: str) -> None:
    """Append the text as it is, a second time if it is there already. A missing folder is an error."""
    with _file().open("a") as stream:
        stream.write(key + "\n")


def remove(key: str) -> None:
    """Drop every line that equals the text and write the file again. A missing file is an error."""
    path = _file()
    kept = [line for line in path.read_text().splitlines(keepends=True) if line.strip() != key.strip()]
    path.write_text("".join(kept))
