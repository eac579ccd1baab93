"""The document says what the server does."""

import json
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient


def operations(app: FastAPI) -> list[tuple[str, str, dict[str, Any]]]:
    paths = app.openapi()["paths"]
    return [(method, path, found) for path, methods in paths.items() for method, found in methods.items()]


def test_every_error_is_declared_as_the_error_object(app: FastAPI) -> None:
    for method, path, operation in operations(app):
        statuses = set(operation["responses"])
        assert "422" not in statuses, (method, path)
        assert {"200", "500"} <= statuses, (method, path)
        for status in statuses - {"200"}:
            schema = operation["responses"][status]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorResponse"}
        for answer in operation["responses"].values():
            assert {"x-request-id", "openai-processing-ms"} <= set(answer["headers"])


def test_routes_are_tagged_summed_up_and_secured(app: FastAPI) -> None:
    document = app.openapi()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    tags = {tag["name"] for tag in document["tags"]}
    for method, path, operation in operations(app):
        assert set(operation["tags"]) <= tags
        assert operation["summary"]
        if path not in {"/healthz", "/readyz"}:
            assert operation["security"] == [{"bearer": []}], (method, path)
            assert {"401", "503"} <= set(operation["responses"]), (method, path)


def test_the_upload_form_and_the_metadata_filter_are_described(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    form = paths["/v1/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["purpose", "file"]
    names = [parameter["name"] for parameter in paths["/v1/fine_tuning/jobs"]["get"]["parameters"]]
    assert sorted(names) == ["after", "limit", "metadata"]


def test_downloads_are_not_declared_as_json(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    content = paths["/v1/files/{file_id}/content"]["get"]["responses"]["200"]["content"]
    adapter = paths["/v1/fine_tuning/jobs/{job_id}/adapter"]["get"]["responses"]["200"]["content"]
    assert list(content) == ["application/octet-stream"]
    assert list(adapter) == ["application/zip"]


def test_the_document_is_served(http: TestClient) -> None:
    document = http.get("/openapi.json").json()
    assert document["info"]["title"] == "tvaccine"
    assert "HTTPValidationError" not in json.dumps(document)
    assert http.get("/docs").status_code == 200
