"""Puts the app together. Importing it loads no model code and opens nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI

from api.context import Context
from api.errors import install_handlers
from api.middleware import BodyLimit, RequestEnvelope
from api.openapi import install_openapi
from api.routes import (
    adapters,
    admin_audit,
    admin_keys,
    admin_safety_reports,
    admin_vaccinations,
    files,
    health,
    job_history,
    jobs,
    models,
    safety,
    safety_reports,
    screening,
)
from service.settings import Settings, get_settings

ROUTERS = (
    files,
    jobs,
    job_history,
    safety,
    safety_reports,
    screening,
    adapters,
    models,
    admin_vaccinations,
    admin_safety_reports,
    admin_keys,
    admin_audit,
    health,
)
TAGS = [
    {"name": "files", "description": "Training data."},
    {"name": "fine-tuning", "description": "Jobs, their history, their safety report and their adapter."},
    {"name": "models", "description": "Base models and released fine-tuned ones."},
    {"name": "admin", "description": "Vaccines, projects, keys and the audit trail; needs a key with the role admin."},
    {"name": "health", "description": "For load balancers; needs no key."},
]
DESCRIPTION = (
    "Fine-tuning in OpenAI's wire form. A job's base model is vaccinated first, the tuned adapter is scored "
    "for harmfulness, and it is released only if the score passes. Every error is an object "
    '`{"error": {"message", "type", "param", "code"}}`.'
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The app for `settings`, by default those of the environment.

    The database is first touched by the first request; migrations are run elsewhere, and /readyz says if they
    were forgotten. Raises InvalidRequest for settings that cannot be used.
    """
    context = Context.open(settings or get_settings())
    app = FastAPI(
        title="tvaccine",
        version=_version(),
        summary="Fine-tuning as a service that stays safe.",
        description=DESCRIPTION,
        openapi_tags=TAGS,
        redirect_slashes=False,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.context = context
    for module in ROUTERS:
        app.include_router(module.router)
    install_handlers(app)
    install_openapi(app)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, max_upload_bytes=context.settings.max_upload_bytes)
    app.add_middleware(RequestEnvelope)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.context.engine.dispose()


def _version() -> str:
    try:
        return version("tvaccine")
    except PackageNotFoundError:
        return "0"
