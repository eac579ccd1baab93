"""The app for an ASGI server: `uvicorn api.asgi:app`. It is made when first asked for, not on import."""

from functools import lru_cache

from fastapi import FastAPI

from api.app import create_app


@lru_cache(maxsize=1)
def _app() -> FastAPI:
    return create_app()


def __getattr__(name: str) -> FastAPI:
    if name == "app":
        return _app()
    raise AttributeError(name)
