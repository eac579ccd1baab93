"""What a worker does about flagged and unscored rows under each policy, with a fake trainer that finds them."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.artefacts.store import WEIGHTS
from service.db.engine import transaction
from service.db.models import Screening
from service.db.repositories.adapters import AdminAdapterRepository
from service.db.repositories.screenings import ScreeningRepository
from service.screenings import read_page
from tests.worker.conftest import Open, Shop


def recorded(shop: Shop, job_id: str) -> Screening:
    with transaction(shop.runtime.sessions) as session:
        screening = ScreeningRepository(session).get(job_id)
    assert screening is not None
    return screening


def told(shop: Shop, job_id: str) -> list[dict[str, Any]]:
    return [event.data["screening"] for event in shop.events(job_id) if event.data and "screening" in event.data]


def screening_run(shop: Shop) -> dict[str, Any]:
    arguments: dict[str, Any] = next(run for run in shop.runs() if run["stage"] == "screen")["arguments"]
    return arguments


def flagging(open_shop: Open, **settings: Any) -> tuple[Shop, str]:
    shop = open_shop(**settings)
    shop.plan(screen={str(attempt): "flag" for attempt in range(1, 9)})
    job_id = shop.queue(rows=12)
    shop.work()
    return shop, job_id


def foreign(open_shop: Open, policy: str, unscored: str, **rules: Any) -> tuple[Shop, str]:
    """A job with 13 rows: row 1 is flagged, row 3 in German, row 2 both."""
    shop = open_shop(screening=policy, screening_rules={"unscored": unscored, **rules})
    shop.plan(screen={"1": "foreign"})
    job_id = shop.queue(rows=13)
    shop.work()
    return shop, job_id


def rows_trained_on(shop: Shop, job_id: str) -> int:
    with transaction(shop.runtime.sessions) as session:
        adapter = AdminAdapterRepository(session).get_by_job(job_id)
    assert adapter is not None
    return shop.store.read(adapter.storage_key, WEIGHTS).count(b"\n")


@pytest.mark.parametrize(("policy", "rows"), [("report", 12), ("drop", 10)])
def test_flagged_rows_are_told_or_dropped(open_shop: Open, policy: str, rows: int) -> None:
    shop, job_id = flagging(open_shop, screening=policy)
    job = shop.job(job_id)
    assert job.state == "succeeded", job.error
    (summary,) = told(shop, job_id)
    assert summary == recorded(shop, job_id).summary
    assert (summary["policy"], summary["flagged"], summary["n"]) == (policy, 2, 12)
    assert summary["rows"][1] == {
        "line": 2,
        "score": 0.5,
        "reason": "harmful_answer",
        "reasons": ["harmful_answer"],
        "category": None,
        "turn": 1,
        "unread": None,
    }
    assert rows_trained_on(shop, job_id) == rows


@pytest.mark.parametrize(
    ("policy", "unscored", "rows"),
    [("report", "report", 13), ("drop", "report", 11), ("report", "drop", 11), ("drop", "drop", 10)],
)
def test_unscored_rows_are_told_and_dropped_by_a_rule_of_their_own(
    open_shop: Open, policy: str, unscored: str, rows: int
) -> None:
    shop, job_id = foreign(open_shop, policy, unscored)
    job = shop.job(job_id)
    assert job.state == "succeeded", job.error
    (summary,) = told(shop, job_id)
    assert summary["unscored"] == {"n": 2, "percent": 15.38, "reasons": {"German": 2}, "policy": unscored}
    assert (summary["flagged"], summary["block_percent"]) == (2, None)
    assert [(row["line"], row["reason"], row["score"], row["unread"]) for row in summary["rows"]] == [
        (1, "harmful_answer", 0.5, None),
        (2, "harmful_answer", 0.5, "German"),
        (3, "unscored", None, "German"),
    ]
    (event,) = [event for event in shop.events(job_id) if event.data and "screening" in event.data]
    assert event.level == "warn"
    assert event.message.endswith(f"2 that the judge cannot read: German 2 (policy: {unscored})")
    page = read_page(shop.store, recorded(shop, job_id).report_key, None, 10)
    assert [row["id"] for row in page] == ["line-1", "line-2", "line-3"]
    assert rows_trained_on(shop, job_id) == rows


@pytest.mark.parametrize(
    ("policy", "unscored", "limit", "lines"),
    [
        ("report", "block", 15, [2, 3]),
        ("report", "block", 16, None),
        ("block", "block", 23, [1, 2, 3]),
        ("block", "block", 24, None),
        ("block", "report", 15, [1, 2]),
        ("block", "drop", 16, None),
    ],
)
def test_unscored_rows_block_a_file_if_the_operator_wants_it(
    open_shop: Open, policy: str, unscored: str, limit: float, lines: list[int] | None
) -> None:
    shop, job_id = foreign(open_shop, policy, unscored, block_percent=limit)
    job = shop.job(job_id)
    assert told(shop, job_id)[0]["block_percent"] == limit
    if lines is None:
        assert job.state == "succeeded", job.error
        return
    assert job.error is not None
    assert job.error["code"] == "unsafe_training_file"
    assert ("1 of 13 training rows are in a language" in job.error["message"]) is (3 in lines)
    codes = {1: "row_flagged", 2: "row_flagged", 3: "row_unscored"}
    assert [(row["line"], row["code"]) for row in job.error["details"]] == [(line, codes[line]) for line in lines]
    if 3 in lines:
        assert "(German)" in job.error["details"][-1]["message"]


def test_a_file_with_too_many_flagged_rows_is_refused_row_by_row(open_shop: Open) -> None:
    shop, job_id = flagging(open_shop, screening="block", screening_rules={"block_percent": 16})
    job = shop.job(job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert (job.error["code"], job.error["param"]) == ("unsafe_training_file", "training_file")
    assert "2 of 12" in job.error["message"]
    assert "16 %" in job.error["message"]
    assert [(d["line"], d["path"], d["reason"], d["score"]) for d in job.error["details"]] == [
        (1, "messages[1].content", "harmful_answer", 0.5),
        (2, "messages[1].content", "harmful_answer", 0.5),
    ]
    assert [run["stage"] for run in shop.runs()] == ["screen"]
    page = read_page(shop.store, recorded(shop, job_id).report_key, None, 10)
    assert [row["id"] for row in page] == ["line-1", "line-2"]


def test_the_share_that_blocks_is_a_setting_of_its_own(open_shop: Open) -> None:
    rules = {"block_percent": 17, "threshold": 0.7}
    shop, job_id = flagging(open_shop, screening="block", screening_rules=rules, gate={"limit": 1.0})
    assert shop.job(job_id).state == "succeeded"
    assert screening_run(shop)["config"]["threshold"] == 0.7
    assert told(shop, job_id)[0]["block_percent"] == 17


def test_a_drop_that_leaves_too_few_rows_fails(open_shop: Open) -> None:
    shop = open_shop(screening="drop")
    shop.plan(screen={"1": "flag"})
    job_id = shop.queue(rows=11)
    shop.work()
    job = shop.job(job_id)
    assert job.error is not None
    assert job.error["code"] == "invalid_training_file"
    assert told(shop, job_id)[0]["flagged"] == 2


def test_known_prompts_come_from_the_settings_and_the_vaccine(open_shop: Open) -> None:
    shop = open_shop()
    settings = shop.runtime.settings
    assert settings.gate_prompts_file is not None
    for _ in range(2):  # the second job's vaccine was made from the very same files
        shop.queue()
        shop.work()
        arguments = [run for run in shop.runs() if run["stage"] == "screen"][-1]["arguments"]
        assert arguments["gate_files"] == [str(settings.gate_prompts_file)]
        assert arguments["harmful_files"] == [str(settings.harmful_file)]
    settings.gate_prompts_file.write_text('{"prompt": "another prompt"}\n')
    shop.queue()
    shop.work()
    arguments = [run for run in shop.runs() if run["stage"] == "screen"][-1]["arguments"]
    kept = settings.artefacts_dir / "vaccines"
    assert [Path(path).parent for path in arguments["gate_files"]] == [settings.gate_prompts_file.parent, kept]
    assert len(arguments["harmful_files"]) == 1


def test_a_job_that_starts_anew_keeps_one_screening(open_shop: Open) -> None:
    shop = open_shop()
    shop.plan(screen={"1": "flag"}, fine_tune={"2": "crash"})
    job_id = shop.queue(rows=12)
    shop.work()
    assert shop.job(job_id).state == "succeeded"
    assert len(told(shop, job_id)) == 1
    stored = json.loads(shop.store.read(recorded(shop, job_id).report_key))
    assert [row["line"] for row in stored["rows"]] == [1, 2]  # scores of other rows are nobody's business
