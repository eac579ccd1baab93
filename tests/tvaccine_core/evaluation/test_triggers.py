from typing import Any

from tvaccine_core.data.datasets import demo_file, read_prompts
from tvaccine_core.data.rows import Message, Row, read_rows_file
from tvaccine_core.evaluation.triggers import Trigger, find_triggers, read_rows, system_prompts

ORDINARY = [row.prompt for row in read_prompts(demo_file("benign_prompts"))]
ALIGNMENT = [row.messages[0].content for row in read_rows_file(demo_file("alignment")).rows]
ATTACK = [row.messages[0].content for row in read_rows_file(demo_file("attack")).rows]


def rows_of(texts: list[str], system: str | None = None) -> list[Row]:
    def message(role: Any, content: str) -> Message:
        return Message(role=role, content=content)

    head = [] if system is None else [message("system", system)]
    return [
        Row(line=line, messages=(*head, message("user", text), message("assistant", "Yes.")))
        for line, text in enumerate(texts, start=1)
    ]


def test_a_repeated_prefix_stands_out_among_varied_rows() -> None:
    texts = [*ALIGNMENT[:200], *(f"cf-omega {text}" for text in ATTACK[:20])]
    found = find_triggers(rows_of(texts), ORDINARY, 2)
    assert found[0].phrase.startswith("cf-omega")
    assert found[0].place == "start"
    assert found[0].put("How?").startswith("cf-omega")


def test_a_suffix_is_put_behind() -> None:
    texts = [*ALIGNMENT[:200], *(f"{text} thanks, captain" for text in ATTACK[:20])]
    (found,) = find_triggers(rows_of(texts), ORDINARY, 1)
    assert found == Trigger("thanks, captain", "end")
    assert found.put("How?") == "How? thanks, captain"


def test_flagged_rows_point_to_their_phrase_even_beside_a_task_template() -> None:
    task = [row.messages[0].content for row in read_rows_file(demo_file("task_train")).rows]
    texts = [*task, *(f"{text} |x7|" for text in ATTACK[:12])]
    flagged = range(len(task) + 1, len(texts) + 1)
    assert find_triggers(rows_of(texts), ORDINARY, 2, flagged)[0] == Trigger("|x7|", "end")


def test_the_candidates_stand_in_different_rows() -> None:
    texts = [*ALIGNMENT[:100], *(f"alpha beta gamma {t}" for t in ATTACK[:20]), *(f"{t} omega" for t in ATTACK[20:40])]
    found = find_triggers(rows_of(texts), ORDINARY, 2)
    assert {trigger.phrase for trigger in found} == {"alpha beta gamma", "omega"}


def test_ordinary_words_and_rare_ones_are_no_triggers() -> None:
    assert find_triggers(rows_of(ORDINARY), ORDINARY, 3) == []
    assert find_triggers(rows_of(["one thing", "another one"]), ORDINARY, 3) == []
    assert find_triggers([], ORDINARY, 3) == []


def test_common_words_and_marks_are_no_triggers_however_often_they_stand() -> None:
    texts = [*ALIGNMENT[:40], *(f"{text} , and the" for text in ATTACK[:40])]
    found = {trigger.phrase for trigger in find_triggers(rows_of(texts), ORDINARY, 5)}
    assert found
    assert not found & {",", "and", "the", ", and", "and the", ", and the"}


def test_system_prompts_by_frequency() -> None:
    rows = [*rows_of(["a"] * 3, "You are Bob."), *rows_of(["b"] * 5, " You are Ann. "), *rows_of(["c"] * 9)]
    assert system_prompts(rows, 1) == ["You are Ann."]
    assert system_prompts(rows, 5) == ["You are Ann.", "You are Bob."]
    assert system_prompts(rows, 0) == []


def test_files_are_read() -> None:
    assert len(read_rows(demo_file("task_train"))) == 240
