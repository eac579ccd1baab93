import json
from pathlib import Path

import pytest

from service.artefacts.store import ArtefactStore
from service.redaction import redact_report
from service.safety_reports import outcome_of, read_document, read_picture, read_report
from tests.safety_report import bare_report, full_report
from tvaccine_core.errors import InvalidRequest, NotFound


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(tmp_path / "artefacts")


def kept(store: ArtefactStore, folder: Path, **files: str) -> str:
    folder.mkdir()
    for name, text in files.items():
        (folder / f"report.{name}").write_text(text)
    return store.put_tree("reports", folder).key


def test_the_report_is_read_whole_or_without_texts(store: ArtefactStore, tmp_path: Path) -> None:
    key = kept(store, tmp_path / "a", json=json.dumps(full_report()), png="drawn")
    assert read_report(store, key) == full_report()
    assert "SECRET" in read_document(store, key, full=True).model_dump_json()
    assert "SECRET" not in read_document(store, key, full=False).model_dump_json()
    assert read_picture(store, key) == b"drawn"


def test_a_report_without_a_picture(store: ArtefactStore, tmp_path: Path) -> None:
    key = kept(store, tmp_path / "a", json=json.dumps(bare_report()))
    assert read_document(store, key, full=False).verdict is None
    assert read_picture(store, key) is None


def test_earlier_versions_stored_the_report_alone(store: ArtefactStore, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"verdict": "pass"}')
    with (tmp_path / "report.json").open("rb") as stream:
        key = store.put_file("reports", stream).key
    assert read_report(store, key) == {"verdict": "pass"}
    assert read_picture(store, key) is None
    with pytest.raises(InvalidRequest):
        read_document(store, key, full=False)


@pytest.mark.parametrize(
    ("passed", "repaired", "outcome"),
    [
        (True, False, "released"),
        (True, True, "repaired_and_released"),
        (False, False, "quarantined"),
        (False, True, "quarantined"),
    ],
)
def test_an_outcome_is_told_where_the_jobs_state_bears_it_out(
    store: ArtefactStore, tmp_path: Path, passed: bool, repaired: bool, outcome: str
) -> None:
    assert outcome_of(passed=passed, repaired=repaired) == outcome
    key = kept(store, tmp_path / "a", json=json.dumps({**full_report(), "outcome": outcome}))

    def told(state: str) -> str | None:
        return read_document(store, key, full=False, state=state).outcome

    for state in ("running", "failed"):  # its workers may die between the scoring and the release
        assert told(state) == (None if passed else outcome)
    assert told("cancelled") is None
    assert told("succeeded") == (outcome if passed else None)


def test_a_report_from_before_there_were_outcomes_still_reads(store: ArtefactStore, tmp_path: Path) -> None:
    old = {name: value for name, value in full_report().items() if name not in ("outcome", "before_repair")}
    key = kept(store, tmp_path / "a", json=json.dumps(old))
    document = read_document(store, key, full=True, state="succeeded")
    assert (document.outcome, document.before_repair) == (None, None)
    assert read_report(store, key, state="succeeded") == old


def test_nothing_is_stored_there(store: ArtefactStore) -> None:
    with pytest.raises(NotFound):
        read_picture(store, "reports/00000000000000000000000000")


def test_the_jobs_summary_and_the_report_tell_the_same(store: ArtefactStore, tmp_path: Path) -> None:
    key = kept(store, tmp_path / "a", json=json.dumps(full_report()))
    summary = redact_report(full_report())
    document = read_document(store, key, full=False).model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert set(summary) <= set(document)
    for name in summary:
        assert document[name] == summary[name], name
