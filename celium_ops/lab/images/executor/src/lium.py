"""What only upstream's executor of 2025-12 has: routes that Lium itself signs, and no documentation of its API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Header, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel
from settings import PROJECT, LiumSettings
from signature import verify

if TYPE_CHECKING:
    from fastapi import Request


class LiumRequest(BaseModel):
    """A request that Lium has signed; its text is fixed."""

    signature: str


class ContainerRequest(LiumRequest):
    """How busy is a container? What is signed are both fields, as JSON with sorted keys."""

    gpu_uuids: list[str]
    timestamp: int


def create_app(settings: LiumSettings) -> FastAPI:
    """Return an application with these routes."""
    app = FastAPI(title=PROJECT, docs_url=None, redoc_url=None, openapi_url=None)
    # A body that is not JSON stays bytes, which this answer cannot hold: upstream's 500.
    app.add_exception_handler(RequestValidationError, _what_is_wrong)
    hotkey = settings.allowed_hotkey_ss58_address

    @app.post("/ping")
    def ping(request: LiumRequest) -> dict[str, str]:
        """Say that somebody is there."""
        _check("ping_request", request.signature, hotkey)
        return {"status": "pong"}

    @app.post("/hardware_utilization")
    def hardware_utilization(request: LiumRequest) -> dict[str, Any]:
        """Say that nothing is measured here."""
        _check("hardware_utilization_request", request.signature, hotkey)
        return {"simulated": True}

    @app.post("/containers/{name}")
    def container_utilization(name: str, request: ContainerRequest) -> dict[str, Any]:
        """Say that nothing is measured here."""
        _check(_text(gpu_uuids=request.gpu_uuids, timestamp=request.timestamp), request.signature, hotkey)
        return {"simulated": True, "container": name}

    @app.get("/containers/{name}/logs")
    def container_logs(
        name: str, x_signature: Annotated[str, Header()], x_timestamp: Annotated[int, Header()]
    ) -> PlainTextResponse:
        """Say that no container is read here."""
        _check(_text(container_name=name, timestamp=x_timestamp), x_signature, hotkey)
        return PlainTextResponse("celium-ops lab stand-in: no logs\n")

    return app


def _what_is_wrong(_: Request, error: RequestValidationError) -> JSONResponse:
    return JSONResponse({"detail": error.errors()}, status_code=422)


def _text(**values: object) -> str:
    return json.dumps(values, sort_keys=True)


def _check(text: str, signature: str, hotkey: str) -> None:
    """Refuse what ``hotkey`` has not signed; here ``0x`` may be left out."""
    try:
        trusted = verify(text, "0x" + signature.removeprefix("0x"), hotkey)
    except ValueError as error:
        raise HTTPException(400, f"Error verifying signature: {error}") from error
    if not trusted:
        raise HTTPException(401, f"Invalid signature from allowed hotkey {hotkey}")
