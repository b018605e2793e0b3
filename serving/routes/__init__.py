"""The endpoint's paths: OpenAI's and our own, one module for each kind of thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

from serving.logs import open_log
from serving.routes import batches, completions, conversations, feedback, files, health, models, openapi, pool, routers, runs
from serving.routes.crowd import Crowd
from serving.routes.errors import HANDLERS
from serving.routes.watch import Watch

if TYPE_CHECKING:
    from serving.gateway import Gateway

ROUTERS = (
    health.router, models.router, completions.router, feedback.router, files.router, batches.router, conversations.router,
    pool.router, routers.router, runs.router, openapi.router,
)  # fmt: skip


def make_app(gateway: Gateway) -> FastAPI:
    """Make the application that answers for a gateway.

    Args:
        gateway: A gateway that was started; whoever made it stops it.
    """
    app = FastAPI(title="Counterpoint", openapi_url=None, docs_url=None, redoc_url=None, exception_handlers=HANDLERS)
    app.state.gateway = gateway
    for router in ROUTERS:
        app.include_router(router)
    open_log(gateway.config.serving.log)
    app.add_middleware(Crowd, most=gateway.config.serving.max_requests)
    app.add_middleware(Watch, figures=gateway.pipeline.figures)
    return app
