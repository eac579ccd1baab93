"""Pages, order and filters of the listings."""

from collections.abc import Callable

import openai
import pytest
from starlette.testclient import TestClient

BASE = "smollm2-135m-instruct"
Upload = Callable[[openai.OpenAI], str]


def test_files_are_listed_by_age_in_both_orders(alice: openai.OpenAI, upload: Upload) -> None:
    ids = [upload(alice) for _ in range(5)]
    assert [file.id for file in alice.files.list(limit=2)] == ids[::-1]
    assert [file.id for file in alice.files.list(limit=2, order="asc")] == ids
    raw = alice.files.with_raw_response.list(limit=3).http_response.json()
    assert raw["object"] == "list"
    assert raw["has_more"] is True
    assert (raw["first_id"], raw["last_id"]) == (ids[4], ids[2])
    assert [file.id for file in alice.files.list(after=ids[1], order="asc")] == ids[2:]


def test_jobs_are_listed_newest_first_over_all_pages(alice: openai.OpenAI, upload: Upload) -> None:
    file = upload(alice)
    ids = [alice.fine_tuning.jobs.create(model=BASE, training_file=file).id for _ in range(23)]
    page = alice.fine_tuning.jobs.list()
    assert len(page.data) == 20
    assert page.has_more is True
    assert [job.id for job in page] == ids[::-1]
    assert [job.id for job in alice.fine_tuning.jobs.list(limit=4)] == ids[::-1]
    assert [job.id for job in alice.fine_tuning.jobs.list(limit=23).data] == ids[::-1]


def test_jobs_are_found_by_metadata(alice: openai.OpenAI, upload: Upload, http: TestClient) -> None:
    file = upload(alice)

    def create(metadata: dict[str, str] | None) -> str:
        return alice.fine_tuning.jobs.create(model=BASE, training_file=file, metadata=metadata).id

    both, team, empty, none = (
        create({"team": "a b/\u00fc", "run": "1"}),
        create({"team": "x"}),
        create({"team": ""}),
        create(None),
    )

    def found(metadata: dict[str, str]) -> list[str]:
        return [job.id for job in alice.fine_tuning.jobs.list(metadata=metadata, limit=1)]

    assert found({"team": "a b/\u00fc"}) == [both]
    assert found({"team": "a b/\u00fc", "run": "1"}) == [both]
    assert found({"team": "x", "run": "1"}) == []
    assert found({"team": ""}) == [empty]
    assert found({}) == [none, empty, team, both]
    assert found({"team] OR 1=1 --": "x"}) == []
    jobs = alice.fine_tuning.jobs.list(extra_query={"metadata": "null"})
    assert [job.id for job in jobs] == [none]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("metadata=x", "metadata"),
        ("metadata=null&metadata[a]=b", "metadata"),
        ("metadata[a", "metadata"),
        ("&".join(f"metadata[k{n}]=v" for n in range(17)), "metadata"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=many", "limit"),
        ("after=", "after"),
        ("after=" + "x" * 129, "after"),
        ("after=a%00b", "after"),
    ],
)
def test_a_wrong_query_is_named(http: TestClient, new_key: Callable[..., str], query: str, param: str) -> None:
    headers = {"authorization": f"Bearer {new_key('alpha')}"}
    answer = http.get(f"/v1/fine_tuning/jobs?{query}", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_file_limits_and_orders_are_checked(http: TestClient, new_key: Callable[..., str]) -> None:
    headers = {"authorization": f"Bearer {new_key('alpha')}"}
    for query, param in (
        ("limit=10001", "limit"),
        ("order=sideways", "order"),
        ("purpose=" + "x" * 65, "purpose"),
    ):
        answer = http.get(f"/v1/files?{query}", headers=headers)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param
    assert http.get("/v1/files?limit=10000&order=asc", headers=headers).json()["data"] == []
