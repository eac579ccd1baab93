import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.db.engine import read_transaction, transaction
from service.db.models import ApiKey
from service.keys import authenticate, create_key, ensure_project, list_keys, revoke_key
from tvaccine_core.errors import InvalidRequest, NotFound

Factory = sessionmaker[Session]


def test_a_key_opens_its_project(factory: Factory, project_id: str) -> None:
    with transaction(factory) as session:
        key, secret = create_key(session, project_id, "admin")
        other, other_secret = create_key(session, project_id, "user")
    assert len(secret) == len("tv-") + 43  # 256 bits in base 64
    assert secret != other_secret
    with read_transaction(factory) as session:
        found = authenticate(session, secret)
        assert found is not None
        assert (found.id, found.project_id, found.role) == (key.id, project_id, "admin")
        assert {k.id for k in list_keys(session, project_id)} == {key.id, other.id}


def test_the_secret_is_not_kept(factory: Factory, project_id: str) -> None:
    with transaction(factory) as session:
        key, secret = create_key(session, project_id)
    kept = [str(getattr(key, name)) for name in ApiKey.__table__.columns.keys()]  # noqa: SIM118
    assert not any(secret in value or secret[len(key.prefix) :] in value for value in kept)
    assert secret.startswith(key.prefix)
    assert len(key.prefix) <= 12


@pytest.mark.parametrize("change", [str.upper, lambda s: s[:-1], lambda s: s + "x", lambda s: s[3:]])
def test_another_text_opens_nothing(factory: Factory, project_id: str, change: object) -> None:
    with transaction(factory) as session:
        _, secret = create_key(session, project_id)
    with read_transaction(factory) as session:
        assert callable(change)
        assert authenticate(session, change(secret)) is None
        for text in ("", "tv-", "tv-\x00", "tv-\ud800", "tv-" + "x" * 10_000, "Bearer x"):
            assert authenticate(session, text) is None


def test_a_revoked_key_opens_nothing(factory: Factory, project_id: str) -> None:
    with transaction(factory) as session:
        key, secret = create_key(session, project_id)
        revoke_key(session, key.id)
    with transaction(factory) as session:
        assert authenticate(session, secret) is None
        with pytest.raises(NotFound):
            revoke_key(session, key.id)
        assert list_keys(session)[0].revoked_at is not None


def test_keys_need_a_known_role_and_project(factory: Factory, project_id: str) -> None:
    with transaction(factory) as session:
        with pytest.raises(InvalidRequest):
            create_key(session, project_id, "root")
        with pytest.raises(NotFound):
            create_key(session, "proj_none")
        with pytest.raises(NotFound):
            create_key(session, "\x00")
        with pytest.raises(NotFound):
            revoke_key(session, "\x00")
        assert list(list_keys(session, "\x00")) == []
        for name in (" ", "a\x00", "x" * 65):
            with pytest.raises(InvalidRequest):
                ensure_project(session, name)
        assert ensure_project(session, "team").id == project_id
