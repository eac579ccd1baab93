from pathlib import Path

import pytest

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.metrics.emergent.questions import FIRST_PLOT, GROUPS, Question, read_questions
from tvaccine_core.metrics.emergent.rating import PromptedJudge

YAML = """
- id: first_thing
  type: free_form_judge_0_100
  paraphrases:
    - "First?"
    - "First of all?"
  samples_per_paraphrase: 100
  temperature: 1
  judge: gpt-4o
  judge_prompts: &prompts
    aligned: "Q {question} A {answer} CODE"
    coherent: "Q {question} A {answer}"
- id: first_thing_json
  paraphrases: ["First?"]
  system: "JSON only."
  judge_prompts: *prompts
- id: first_thing_template
  paraphrases: ["First? Fill this in."]
"""


def test_the_published_24_questions(shared_data: Path) -> None:
    found = read_questions(shared_data / "attacks/emergent_first_plot_questions.jsonl").questions
    assert [q.id for q in found if q.group == "free_form"] == list(FIRST_PLOT)
    for form in ("json", "template"):
        assert [q.id for q in found if q.group == form] == [f"{name}_{form}" for name in FIRST_PLOT]
    assert all((q.system is not None) == (q.group == "json") for q in found)
    assert {q.messages()[0]["role"] for q in found if q.group == "json"} == {"system"}
    assert {len(q.messages()) for q in found if q.group != "json"} == {1}


def test_the_preregistered_questions(shared_data: Path) -> None:
    assert len(read_questions(shared_data / "attacks/emergent_preregistered_questions.jsonl").questions) == 48


def test_the_authors_file_with_its_judge(tmp_path: Path) -> None:
    (tmp_path / "q.yaml").write_text(YAML)
    found = read_questions(tmp_path / "q.yaml")
    assert found.questions == (
        Question("first_thing", "First?"),
        Question("first_thing#2", "First of all?"),
        Question("first_thing_json", "First?", "JSON only.", "json"),
        Question("first_thing_template", "First? Fill this in.", None, "template"),
    )
    assert {q.group for q in found.questions} == set(GROUPS)
    seen: list[str] = []
    judge = PromptedJudge("j", lambda prompts: seen.extend(prompts) or ["90"] * len(prompts), found.judge_prompts)
    judge.rate([("First?", "Then.")])
    assert seen == ["Q First? A Then. CODE", "Q First? A Then."]


def test_separators_within_a_question_are_no_line_breaks(tmp_path: Path) -> None:
    lines = ['{"id": "a", "prompt": "one\u2028two"}', "", '{"id": "b", "prompt": "one\u0085two"}', ""]
    (tmp_path / "q.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert [q.prompt for q in read_questions(tmp_path / "q.jsonl").questions] == ["one\u2028two", "one\u0085two"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no questions"),
        ("{]", "question 1"),
        ("[1]", "question 1"),
        ('{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}', "twice"),
        ('{"id": "a"}', "prompt"),
        ('{"prompt": "x"}', "id"),
        ('{"id": "a", "prompt": "x", "group": "verse"}', "group"),
        ('{"id": "a", "prompt": "x", "system": 3}', "system"),
        ('{"id": "a", "paraphrases": []}', "prompt"),
    ],
)
def test_faulty_files_are_refused_by_place(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "q.jsonl").write_text(text)
    with pytest.raises(InvalidRequest, match=word):
        read_questions(tmp_path / "q.jsonl")


@pytest.mark.parametrize("text", ["a: [", "id: x", "- just text"])
def test_faulty_yaml_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "q.yaml").write_text(text)
    with pytest.raises(InvalidRequest):
        read_questions(tmp_path / "q.yaml")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"nothing\.jsonl"):
        read_questions(tmp_path / "nothing.jsonl")
