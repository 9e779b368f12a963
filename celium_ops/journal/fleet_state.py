"""Where the state of one fleet lives: a folder named by an id that is kept beside the inventory."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from celium_ops.base.errors import CeliumError
from celium_ops.base.paths import state_dir

ID_FILE = ".celium-fleet-id"


def fleet_dir(inventory: Path) -> Path:
    """Return the state folder of the fleet of an inventory, made when it is missing (0700).

    The id is made once and kept in a hidden file beside the inventory, which Ansible ignores; so the state follows the
    inventory when it moves, and two checkouts of one inventory share it when they share the file.

    Raises:
        CeliumError: the id or the folder cannot be written.
    """
    folder = inventory if inventory.is_dir() else inventory.absolute().parent
    try:
        path = state_dir() / _fleet_id(folder / ID_FILE)
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
    try:
        # Exclusive creation: of two first runs at the same time, one writes and the other reads.
        with file.open("x") as stream:
            stream.write(f"{uuid.uuid4()}\n")
    except FileExistsError:
        pass
    found = file.read_text().strip()
    if not re.fullmatch(r"[0-9a-f-]{36}", found):
        raise CeliumError(f"{file} holds no fleet id", remedy="remove the file; a new id is made", file=str(file))
    return found
