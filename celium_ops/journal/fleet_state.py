"""Where the state of one fleet lives: a folder named by an id that is kept beside the inventory."""

from __future__ import annotations

import os
import re
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

from celium_ops.base.errors import CeliumError
from celium_ops.base.paths import state_dir

ID_FILE = ".celium-fleet-id"


def id_file(inventory: Path) -> Path:
    """Return the file that holds the id of an inventory's fleet: every inventory of a folder has its own."""
    return inventory / ID_FILE if inventory.is_dir() else inventory.absolute().parent / f".{inventory.name}{ID_FILE}"


def fleet_dir(inventory: Path) -> Path:
    """Return the state folder of the fleet of an inventory, made when it is missing (0700).

    The id is made once and kept in a hidden file beside the inventory, which Ansible ignores; so the state follows the
    inventory when it moves, and two checkouts of one inventory share it when they share the file.

    Raises:
        CeliumError: the id or the folder cannot be written.
    """
    try:
        path = state_dir() / _fleet_id(id_file(inventory))
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CeliumError(
            f"cannot keep the state of the fleet: {error.strerror}: {error.filename}",
            remedy="the folder of the inventory and $XDG_STATE_HOME must be writable",
            file=str(error.filename),
            code="state-not-writable",
        ) from error
    return path


def _fleet_id(file: Path) -> str:
    if not file.exists():
        # A link to a file that is complete: of two first runs at the same time one wins, and a crash leaves no half.
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=file.name) as stream:
            stream.write(f"{uuid.uuid4()}\n")
            stream.flush()
            with suppress(FileExistsError):
                os.link(stream.name, file)
                file.chmod(0o644)
    found = file.read_text().strip()
    if not re.fullmatch(r"[0-9a-f-]{36}", found):
        raise CeliumError(f"{file} holds no fleet id", remedy="remove the file; a new id is made", file=str(file))
    return found
