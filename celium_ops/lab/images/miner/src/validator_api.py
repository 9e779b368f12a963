"""What a validator asks a miner over HTTP, which upstream has since 2025-12: routes, headers and bodies."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, HTTPException
from pydantic import BaseModel

router = APIRouter()


class ExecutorsRequest(BaseModel):
    """Which executors does a validator have? It signs its own hotkey."""

    validator_hotkey: str
    signature: str


class Headers(BaseModel):
    """Who asks whom, and when, signed."""

    x_validator_hotkey: str
    x_miner_hotkey: str
    x_timestamp: int
    x_signature: str


class KeyRequest(BaseModel):
    """Let a key of the validator into its executors, or shut it out."""

    public_key: str


class PodLogsRequest(BaseModel):
    """What happened to a container?"""

    container_name: str
    executor_id: str


@router.post("/executors")
def executors(_: ExecutorsRequest) -> None:
    """Refuse."""
    _refuse()


@router.post("/api/validator/ssh-pubkey-submit")
def submit_key(_: KeyRequest, _headers: Annotated[Headers, Header()]) -> None:
    """Refuse."""
    _refuse()


@router.post("/api/validator/ssh-pubkey-remove")
def remove_key(_: KeyRequest, _headers: Annotated[Headers, Header()]) -> None:
    """Refuse."""
    _refuse()


@router.post("/api/validator/pod-logs")
def pod_logs(_: PodLogsRequest, _headers: Annotated[Headers, Header()]) -> None:
    """Refuse."""
    _refuse()


def _refuse() -> None:
    # No validator is authenticated here, as on the websocket.
    raise HTTPException(403, "Validator is not registered (celium-ops lab stand-in)")
