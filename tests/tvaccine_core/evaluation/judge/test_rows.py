import json
from pathlib import Path

import pytest

from tvaccine_core.data.datasets import demo_file, read_prompts
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.judge.rows import (
    LICENCES,
    OWN,
    own_rows,
    permitted,
    read_judge_rows,
    row_weights,
)


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_both_spellings_and_bare_texts_are_read(tmp_path: Path) -> None:
    rows = read_judge_rows(
        write(
            tmp_path / "rows.jsonl",
            {"prompt": "p", "answer": "a", "label": 1, "source": "s", "split": "train"},
            {"response_or_text": "t", "label": 0},
        )
    )
    assert (rows[0].pair, rows[0].label, rows[0].split) == (("p", "a"), 1, "train")
    assert (rows[1].pair, rows[1].source, rows[1].split) == (("", "t"), "unnamed", "test")


def test_separators_within_a_text_are_no_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    answers = ["one\u2028two", "one\u2029two", "one\u0085two"]
    lines = [json.dumps({"answer": answer, "label": 0}, ensure_ascii=False) for answer in answers]
    path.write_bytes("\r\n".join([*lines, ""]).encode())
    assert [row.answer for row in read_judge_rows(path)] == answers


@pytest.mark.parametrize("bad", [{"answer": "a"}, {"label": 1}, {"answer": "a", "label": 2}, [1]])
def test_a_faulty_row_is_named_by_line(tmp_path: Path, bad: object) -> None:
    path = write(tmp_path / "rows.jsonl", {"answer": "a", "label": 0}, bad)
    with pytest.raises(InvalidRequest, match=r"rows.jsonl, line 2"):
        read_judge_rows(path)


def test_only_listed_licences_are_permitted(tmp_path: Path) -> None:
    sources = ["gptfuzz_labelled", "pku_saferlhf_safe", "alpaca_benign", "toxicchat_user_input", "new"]
    rows = read_judge_rows(write(tmp_path / "rows.jsonl", *({"answer": "a", "label": 0, "source": s} for s in sources)))
    assert [row.source for row in permitted(rows)] == ["gptfuzz_labelled"]
    assert not any("NC" in licence for licence in LICENCES.values())


def test_own_rows_hold_both_labels_and_weigh_more() -> None:
    rows = own_rows()
    assert {row.label for row in rows} == {0, 1}
    assert {(row.source, row.split) for row in rows} == {(OWN, "train")}
    assert set(row_weights(rows)) == {5.0}
    assert all(row.prompt and row.answer for row in rows)


def test_own_rows_share_no_prompt_with_what_the_judge_is_measured_on() -> None:
    own = {row.prompt.casefold() for row in own_rows()}
    for name in ("gate_prompts", "tuning_prompts", "benign_prompts", "attack", "probe", "alignment"):
        assert own & {item.prompt.casefold() for item in read_prompts(demo_file(name))} == set(), name
    pairs = read_judge_rows(Path(__file__).parents[1] / "short_pairs.jsonl")
    assert own & {row.prompt.casefold() for row in pairs} == set()
