"""Many requests at once: no deadlock over threads and connections, and no write is lost."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import openai
from fastapi import FastAPI
from starlette.testclient import TestClient

BASE = "smollm2-135m-instruct"


def test_a_crowd_of_writers_and_readers_is_served(
    app: FastAPI,
    new_key: Callable[..., str],
    client_of: Callable[[str], openai.OpenAI],
    upload: Callable[[openai.OpenAI], str],
) -> None:
    key = new_key("alpha")
    file = upload(client_of(key))
    headers = {"authorization": f"Bearer {key}"}
    with TestClient(app, raise_server_exceptions=False) as client:

        def create_and_look(number: int) -> tuple[int, int]:
            body = {"model": BASE, "training_file": file, "seed": number}
            made = client.post("/v1/fine_tuning/jobs", json=body, headers=headers)
            listed = client.get("/v1/fine_tuning/jobs?limit=5", headers=headers)
            return made.status_code, listed.status_code

        with ThreadPoolExecutor(80) as crowd:
            answers = list(crowd.map(create_and_look, range(80)))
        assert answers == [(200, 200)] * 80
        listed = client.get("/v1/fine_tuning/jobs?limit=100", headers=headers).json()["data"]
    assert sorted(job["seed"] for job in listed) == list(range(80))


def test_the_same_idempotency_key_at_once_gives_one_job(
    app: FastAPI,
    new_key: Callable[..., str],
    client_of: Callable[[str], openai.OpenAI],
    upload: Callable[[openai.OpenAI], str],
) -> None:
    key = new_key("alpha")
    file = upload(client_of(key))
    headers = {"authorization": f"Bearer {key}", "idempotency-key": "once"}
    with TestClient(app, raise_server_exceptions=False) as client:

        def create(_: int) -> str:
            body = {"model": BASE, "training_file": file}
            answer = client.post("/v1/fine_tuning/jobs", json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            made: str = answer.json()["id"]
            return made

        with ThreadPoolExecutor(10) as crowd:
            assert len(set(crowd.map(create, range(10)))) == 1
