"""Only requests that the right hotkey signed reach the API."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import sr25519
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from standin import DIALECT, ss58_decode

if TYPE_CHECKING:
    from starlette.middleware.base import RequestResponseEndpoint
    from starlette.requests import Request
    from starlette.responses import Response

logger = logging.getLogger("executor.signature")

_SIGNATURE_BYTES = 64
_LIUMS_OWN = re.compile(r"/hardware_utilization|/ping|/containers(/[^/]+)?/?")


class SignedBody(BaseModel):
    """What every body must hold, whatever else it holds."""

    data_to_sign: str
    signature: str


def verify(text: str, signature_hex: str, hotkey: str) -> bool:
    """Tell whether ``hotkey`` signed the text.

    Raises:
        ValueError: the hotkey is no address, or the signature is not ``0x`` and 64 bytes in hex.
    """
    try:
        public_key = ss58_decode(hotkey)
    except ValueError as error:
        raise ValueError(f"Invalid SS58 address: {hotkey!r}") from error
    if not signature_hex.startswith("0x"):
        raise ValueError("the signature does not begin with 0x")
    signature = bytes.fromhex(signature_hex[2:])
    if len(signature) != _SIGNATURE_BYTES:
        raise ValueError(f"the signature has {len(signature)} bytes instead of {_SIGNATURE_BYTES}")
    message = text.encode()
    # Browser wallets wrap what they sign; upstream's SDK takes both forms.
    forms = (message, b"<Bytes>" + message + b"</Bytes>")
    try:
        return any(sr25519.verify(signature, form, public_key) for form in forms)
    except ValueError:
        # 64 bytes that no key could have made, 64 zeros for one: a wrong signature as any other.
        return False


class MinerSignature:
    """The check in front of every route, docs included.

    Upstream of 2025-12 lets GET through, and what Lium signs itself.

    Args:
        hotkeys: ss58 addresses, one of which has signed; a wrong one is found out only by a request, which then gets
            a 500.
    """

    def __init__(self, *hotkeys: str) -> None:
        self._hotkeys = hotkeys

    async def __call__(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Answer 422 to what is no signed body and 401 to a foreign signature; errors become a plain 500."""
        if DIALECT == "lium" and (request.method == "GET" or _LIUMS_OWN.fullmatch(request.url.path)):
            return await call_next(request)
        try:
            body = SignedBody.model_validate_json(await request.body())
        except ValidationError as error:
            logger.error("Validation Error >>> %s", error)
            return JSONResponse(f"Validation Error >>> {error}", status_code=422)
        logger.info("signed request for %s", request.url.path)
        try:
            trusted = any(verify(body.data_to_sign, body.signature, hotkey) for hotkey in self._hotkeys)
        except ValueError as error:
            logger.error("%s", error)
            raise
        if not trusted:
            logger.error("Unauthorized: %s", request.url.path)
            return JSONResponse("Unauthorized", status_code=401)
        return await call_next(request)
