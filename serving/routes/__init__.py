"""The endpoint's paths: OpenAI's and our own, one module for each kind of thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

from serving.routes import batches, completions, feedback, files, health, models
from serving.routes.errors import HANDLERS

if TYPE_CHECKING:
    from serving.gateway import Gateway

ROUTERS = (health.router, models.router, completions.router, feedback.router, files.router, batches.router)


def make_app(gateway: Gateway) -> FastAPI:
    """Make the application that answers for a gateway.

    Args:
        gateway: A gateway that was started; whoever made it stops it.
    """
    app = FastAPI(title="Counterpoint", openapi_url=None, docs_url=None, redoc_url=None, exception_handlers=HANDLERS)
    app.state.gateway = gateway
    for router in ROUTERS:
        app.include_router(router)
    return app
