"""What only those who run the endpoint may see."""

from __future__ import annotations

from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse

from serving.protocol import error_json
from serving.routes.common import gateway_of, key_of


async def refusal(http: HTTPRequest) -> JSONResponse | None:
    """What a key is told that is no admin's; None to admins, and to everybody where no keys are wanted.

    Raises:
        CounterpointError: The request may not come in at all.
    """
    key = await key_of(http)
    if gateway_of(http).config.serving.keys and not key.admin:
        return JSONResponse(error_json("this is for keys of admins", code="forbidden"), 403)
    return None
