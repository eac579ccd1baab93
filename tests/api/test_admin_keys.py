"""Projects and keys, for admins."""

from collections.abc import Callable
from typing import Any

import openai
import pytest


def post(client: openai.OpenAI, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(path, body=body, cast_to=object)
    assert isinstance(answer, dict)
    return answer


def test_a_new_key_of_a_new_project_works_until_it_is_revoked(
    admin: openai.OpenAI, client_of: Callable[[str], openai.OpenAI]
) -> None:
    project = post(admin, "/admin/projects", {"name": "research"})
    assert project["object"] == "project"
    key = post(admin, "/admin/keys", {"project_id": project["id"]})
    assert (key["role"], key["revoked_at"]) == ("user", None)
    assert key["secret"].startswith(key["prefix"])
    client = client_of(key["secret"])
    assert client.files.list().data == []
    revoked = admin.delete(f"/admin/keys/{key['id']}", cast_to=object)
    assert isinstance(revoked, dict)
    assert revoked["revoked_at"] is not None
    with pytest.raises(openai.AuthenticationError):
        client.files.list()
    with pytest.raises(openai.NotFoundError):
        admin.delete(f"/admin/keys/{key['id']}", cast_to=object)


def test_keys_are_listed_without_their_secrets(admin: openai.OpenAI) -> None:
    project = post(admin, "/admin/projects", {"name": "research"})
    key = post(admin, "/admin/keys", {"project_id": project["id"], "role": "admin"})
    whole = admin.get("/admin/keys", cast_to=object)
    own = admin.get(f"/admin/keys?project_id={project['id']}", cast_to=object)
    assert isinstance(whole, dict)
    assert isinstance(own, dict)
    assert len(whole["data"]) == 2
    assert [found["id"] for found in own["data"]] == [key["id"]]
    assert key["secret"] not in str(whole)


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/admin/projects", {"name": ""}, 400, "name"),
        ("/admin/projects", {"name": "  "}, 400, "name"),
        ("/admin/projects", {"name": "operations"}, 409, "name"),
        ("/admin/keys", {"project_id": "proj_unknown"}, 404, None),
        ("/admin/keys", {"project_id": "p", "role": "god"}, 400, "role"),
        ("/admin/keys", {}, 400, "project_id"),
    ],
)
def test_wrong_requests_are_refused(
    admin: openai.OpenAI, path: str, body: dict[str, Any], status: int, param: str | None
) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        post(admin, path, body)
    assert refused.value.status_code == status
    assert refused.value.param == param
