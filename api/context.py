"""What one running app holds: its settings, its database and its artefact store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from service.artefacts.store import ArtefactStore
from service.db.engine import make_engine, read_transaction, session_factory, transaction
from service.settings import Settings


@dataclass(frozen=True)
class Context:
    """Made once an app; the engine connects at the first request."""

    settings: Settings
    engine: Engine
    factory: sessionmaker[Session]
    store: ArtefactStore

    @classmethod
    def open(cls, settings: Settings) -> "Context":
        """The context of `settings`; touches no database."""
        engine = make_engine(settings.database_url)
        return cls(settings, engine, session_factory(engine), ArtefactStore(settings.artefacts_dir))

    @contextmanager
    def write(self) -> Iterator[Session]:
        """The one writing transaction of a request, committed at the end of the block.

        Routes open it in their own body: a transaction that is opened in one thread of the pool and used in
        another can hold the last connection while all threads wait for one.
        """
        with transaction(self.factory) as session:
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """The one reading transaction of a request."""
        with read_transaction(self.factory) as session:
            yield session


def request_context(request: Request) -> Context:
    """The context of the app that serves `request`."""
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(request_context)]
