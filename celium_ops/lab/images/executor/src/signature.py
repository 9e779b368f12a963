"""Only requests that the configured miner hotkey signed reach the API."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import sr25519
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from standin import ss58_decode

if TYPE_CHECKING:
    from starlette.middleware.base import RequestResponseEndpoint
    from starlette.requests import Request
    from starlette.responses import Response

logger = logging.getLogger("executor.signature")

_SIGNATURE_BYTES = 64


class SignedBody(BaseModel):
    """What every body must hold, whatever else it holds."""

    data_to_sign: str
    signature: str


def verify(body: SignedBody, hotkey: str) -> bool:
    """Tell whether ``hotkey`` signed the body's text.

    Raises:
        ValueError: the hotkey is no address, or the signature is not ``0x`` and 64 bytes in hex.
    """
    try:
        public_key = ss58_decode(hotkey)
    except ValueError as error:
        raise ValueError(f"Invalid SS58 address: {hotkey!r}") from error
    if not body.signature.startswith("0x"):
        raise ValueError("the signature does not begin with 0x")
    signature = bytes.fromhex(body.signature[2:])
    if len(signature) != _SIGNATURE_BYTES:
        raise ValueError(f"the signature has {len(signature)} bytes instead of {_SIGNATURE_BYTES}")
    message = body.data_to_sign.encode()
    # Browser wallets wrap what they sign; upstream's SDK takes both forms.
    forms = (message, b"<Bytes>" + message + b"</Bytes>")
    try:
        return any(sr25519.verify(signature, form, public_key) for form in forms)
    except ValueError:
        # 64 bytes that no key could have made, 64 zeros for one: a wrong signature as any other.
        return False


class MinerSignature:
    """The check in front of every route, docs included.

    Args:
        hotkey: the miner's ss58 address; a wrong one is found out only by a request, which then gets a 500.
    """

    def __init__(self, hotkey: str) -> None:
        self._hotkey = hotkey

    async def __call__(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Answer 422 to what is no signed body and 401 to a foreign signature; errors become a plain 500."""
        try:
            body = SignedBody.model_validate_json(await request.body())
        except ValidationError as error:
            logger.error("Validation Error >>> %s", error)
            return JSONResponse(f"Validation Error >>> {error}", status_code=422)
        logger.info("signed request for %s", request.url.path)
        try:
            trusted = verify(body, self._hotkey)
        except ValueError as error:
            logger.error("%s", error)
            raise
        if not trusted:
            logger.error("Unauthorized: %s", request.url.path)
            return JSONResponse("Unauthorized", status_code=401)
        return await call_next(request)
