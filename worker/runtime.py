"""What one worker process holds: settings, database, artefact store and its name as an owner of leases."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session, sessionmaker

from service.artefacts.store import ArtefactStore
from service.db.engine import make_engine, session_factory
from service.settings import Settings


@dataclass(frozen=True)
class Runtime:
    """Made once a process, after a fork: database connections must not cross it."""

    settings: Settings
    sessions: sessionmaker[Session]
    store: ArtefactStore
    owner: str

    @classmethod
    def open(cls, settings: Settings, owner: str) -> Runtime:
        """The runtime of `settings`; touches no database yet."""
        settings.make_directories()
        engine = make_engine(settings.database_url)
        return cls(settings, session_factory(engine), ArtefactStore(settings.artefacts_dir), owner)
