"""Keys: missing, wrong, revoked, and of the wrong role."""

from collections.abc import Callable

import openai
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from api.context import Context
from service.keys import authenticate, revoke_key

OPEN = {"/healthz", "/readyz"}


def operations(app: FastAPI) -> list[tuple[str, str]]:
    """Every method and path of the app's document."""
    paths = app.openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_every_route_but_health_wants_a_key(app: FastAPI, http: TestClient) -> None:
    wanted = [(method, path) for method, path in operations(app) if path not in OPEN]
    assert len(wanted) >= 25
    for method, path in wanted:
        for headers in ({}, {"authorization": "Bearer tv-wrong"}, {"authorization": "Basic dHY6eA=="}):
            answer = http.request(method, path.replace("{", "").replace("}", ""), headers=headers, json={})
            # A body is judged first where it is JSON; it never tells more than the document does.
            if answer.status_code == 400 and "model" in answer.text:
                pytest.fail(f"{method} {path} judges the body of a stranger")
            assert answer.status_code == 401, (method, path)
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"


def test_a_strangers_upload_is_not_read(http: TestClient) -> None:
    answer = http.post("/v1/files", content=b"x" * 1000, headers={"content-type": "multipart/form-data"})
    assert answer.status_code == 401


def test_a_revoked_key_is_useless_at_once(http: TestClient, new_key: Callable[..., str], context: Context) -> None:
    secret = new_key("alpha")
    headers = {"authorization": f"Bearer {secret}"}
    assert http.get("/v1/files", headers=headers).status_code == 200
    with context.write() as session:
        key = authenticate(session, secret)
        assert key is not None
        revoke_key(session, key.id)
    assert http.get("/v1/files", headers=headers).status_code == 401


def test_users_may_not_use_admin_routes(app: FastAPI, http: TestClient, new_key: Callable[..., str]) -> None:
    headers = {"authorization": f"Bearer {new_key('alpha')}"}
    admin_only = [(method, path) for method, path in operations(app) if path.startswith("/v1/admin/")]
    assert len(admin_only) >= 8
    for method, path in admin_only:
        answer = http.request(method, path, headers=headers, json={"name": "n", "project_id": "p"})
        assert answer.status_code == 403, (method, path)
        assert answer.json()["error"]["code"] == "permission_denied"


def test_the_client_raises_its_own_errors(client_of: Callable[[str], openai.OpenAI], alice: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        client_of("tv-wrong").models.list()
    with pytest.raises(openai.PermissionDeniedError):
        alice.get("/admin/keys", cast_to=object)


def test_every_route_of_the_app_is_in_its_document(app: FastAPI) -> None:
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    assert all(route.include_in_schema for route in routes)
