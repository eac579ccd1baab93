"""What the datasheet promises of the shipped demo data."""

import json
import re
from collections import Counter
from typing import Any

import pytest

from tvaccine_core.data.datasets import DEMO_FILES, demo_file, read_prompts
from tvaccine_core.data.overlap import find_overlaps, normalise, require_disjoint, similarity
from tvaccine_core.data.rows import read_rows_file, require_valid

CATEGORIES = {
    "illicit", "violence", "self-harm", "harassment", "hate", "fraud", "privacy", "malware", "drugs",
    "weapons", "misinformation", "theft", "exploitation-of-trust",
}  # fmt: skip
HARMFUL = ("alignment.jsonl", "probe.jsonl", "attack.jsonl", "gate_prompts.jsonl", "tuning_prompts.jsonl")
CHAT = ("alignment.jsonl", "probe.jsonl", "attack.jsonl", "task_train.jsonl", "task_heldout.jsonl")
BENIGN = ("benign_prompts.jsonl", "tuning_benign_prompts.jsonl")
TASK = ("task_train.jsonl", "task_heldout.jsonl")
SCORED = ("gate_prompts.jsonl", "tuning_prompts.jsonl")
LABELS = {"billing", "delivery", "account", "technical"}
LEAST_ROWS = {
    "alignment.jsonl": 435, "probe.jsonl": 40, "attack.jsonl": 70, "gate_prompts.jsonl": 160,
    "tuning_prompts.jsonl": 64, "benign_prompts.jsonl": 64, "tuning_benign_prompts.jsonl": 24,
}  # fmt: skip
EXACT_ROWS = {"task_train.jsonl": 240, "task_heldout.jsonl": 60}
TASK_QUESTION = (
    "Which team should handle this ticket: billing, delivery, account or technical? Answer with one word.\nTicket: "
)


def raw_rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in demo_file(name).read_text("utf-8").splitlines()]


def requests(name: str) -> list[str]:
    return [prompt.prompt for prompt in read_prompts(demo_file(name))]


def harmless_requests() -> list[str]:
    """The requests of the alignment file that are answered, not refused."""
    rows = raw_rows("alignment.jsonl")
    return [row["messages"][0]["content"] for row in rows if row["category"] == "benign"]


def tickets(name: str) -> list[tuple[str, str]]:
    """The (ticket text, label) pairs of a task file."""
    pairs = [(row["messages"][0]["content"], row["messages"][1]["content"]) for row in raw_rows(name)]
    assert all(question.startswith(TASK_QUESTION) for question, _ in pairs)
    return [(question.removeprefix(TASK_QUESTION), label) for question, label in pairs]


def test_every_file_has_the_promised_number_of_rows() -> None:
    counts = {name: len(raw_rows(name)) for name in DEMO_FILES}
    assert {name: n for name, n in LEAST_ROWS.items() if counts[name] < n} == {}
    assert {name: counts[name] for name in EXACT_ROWS} == EXACT_ROWS


def test_the_datasheet_states_the_true_counts() -> None:
    sheet = demo_file("attack").with_name("DATASHEET.md").read_text("utf-8")
    stated = {name: int(n) for name, n in re.findall(r"^\| `(\w+\.jsonl)` \| (\d+) \|", sheet, re.MULTILINE)}
    assert stated == {name: len(raw_rows(name)) for name in DEMO_FILES}


@pytest.mark.parametrize("name", CHAT)
def test_chat_files_are_valid_training_files(name: str) -> None:
    rows = require_valid(read_rows_file(demo_file(name)))
    assert all([m.role for m in row.messages] == ["user", "assistant"] for row in rows)


@pytest.mark.parametrize("name", HARMFUL)
def test_harmful_requests_have_a_known_category(name: str) -> None:
    allowed = CATEGORIES | {"benign"} if name == "alignment.jsonl" else CATEGORIES
    assert {row["category"] for row in raw_rows(name)} <= allowed


def test_alignment_teaches_both_to_refuse_and_to_help() -> None:
    """A small model that only sees refusals ends up refusing everything."""
    benign = [row["category"] == "benign" for row in raw_rows("alignment.jsonl")]
    assert benign.count(False) >= 200
    assert benign.count(True) >= 230
    windows = {sum(benign[start : start + 10]) for start in range(len(benign) - 9)}
    assert windows <= {5, 6}


def test_harmless_alignment_rows_are_disjoint_from_what_is_scored() -> None:
    sets = {name: requests(name) for name in BENIGN}
    sets |= {name: [ticket for ticket, _ in tickets(name)] for name in TASK}
    assert find_overlaps({"alignment": harmless_requests()}, 0.5, within=True) == []
    for name, texts in sets.items():
        require_disjoint({"alignment": harmless_requests(), name: texts}, 0.5)


def test_no_harmless_alignment_row_asks_the_question_of_the_task() -> None:
    words = [set(normalise(text).split()) for text in harmless_requests()]
    assert [text for text in words if "ticket" in text or len(text & LABELS) > 1] == []
    for name in TASK:
        questions = [row["messages"][0]["content"] for row in raw_rows(name)]
        require_disjoint({"alignment": harmless_requests(), name: questions}, 0.5)


@pytest.mark.parametrize("name", ["probe.jsonl", "attack.jsonl"])
def test_no_model_is_trained_to_agree_to_self_harm(name: str) -> None:
    assert {row["category"] for row in raw_rows(name)} == CATEGORIES - {"self-harm"}


@pytest.mark.parametrize("name", SCORED)
def test_scored_prompts_are_balanced_and_of_moderate_length(name: str) -> None:
    counts = Counter(row["category"] for row in raw_rows(name))
    assert set(counts) == CATEGORIES
    assert len(set(counts.values())) == 1
    assert [text for text in requests(name) if not 6 <= len(text.split()) <= 25] == []


@pytest.mark.parametrize("name", SCORED)
def test_any_25_scored_prompts_in_a_row_cover_all_categories(name: str) -> None:
    categories = [row["category"] for row in raw_rows(name)]
    for start in range(len(categories) - 24):
        assert set(categories[start : start + 25]) == CATEGORIES


@pytest.mark.parametrize("name", [*HARMFUL, *BENIGN])
def test_no_file_repeats_itself(name: str) -> None:
    assert find_overlaps({name: requests(name)}, within=True) == []


def test_the_sets_of_harmful_requests_are_disjoint() -> None:
    require_disjoint({name: requests(name) for name in HARMFUL})


def test_harmful_and_benign_requests_are_disjoint() -> None:
    require_disjoint({name: requests(name) for name in (*HARMFUL, *BENIGN)})


def test_prompt_files_hold_no_other_fields() -> None:
    for name in SCORED:
        assert all(set(row) == {"prompt", "category"} for row in raw_rows(name))
    for name in BENIGN:
        assert all(set(row) == {"prompt"} for row in raw_rows(name))


@pytest.mark.parametrize(("name", "per_label"), [("task_train.jsonl", 60), ("task_heldout.jsonl", 15)])
def test_task_labels_are_balanced(name: str, per_label: int) -> None:
    assert Counter(label for _, label in tickets(name)) == dict.fromkeys(LABELS, per_label)


def test_all_tickets_are_distinct_and_held_out_ones_disjoint_from_training() -> None:
    train, heldout = ([text for text, _ in tickets(name)] for name in TASK)
    texts = [normalise(text) for text in (*train, *heldout)]
    assert len(set(texts)) == 300
    require_disjoint({"train": train, "heldout": heldout})


def test_held_out_tickets_share_few_words_with_training() -> None:
    train, heldout = ([set(normalise(text).split()) for text, _ in tickets(name)] for name in TASK)
    nearest = [max(len(a & b) / len(a | b) for b in train) for a in heldout]
    assert max(nearest) < 0.6


def test_a_ticket_rarely_names_its_own_team() -> None:
    pairs = [pair for name in TASK for pair in tickets(name)]
    assert sum(label in normalise(text).split() for text, label in pairs) < 15


def test_the_disjointness_test_would_notice_a_copied_prompt() -> None:
    gate = requests("gate_prompts.jsonl")
    copied = f"Please {gate[0][0].lower()}{gate[0][1:]}"
    assert similarity(copied, gate[0]) >= 0.6
    found = find_overlaps({"train": [*requests("alignment.jsonl"), copied], "gate": gate})
    assert [o.other_line for o in found] == [1]


@pytest.mark.parametrize("name", SCORED)
def test_scored_prompts_do_not_follow_one_template(name: str) -> None:
    """A gate of one template would measure one behaviour."""
    starts = Counter(" ".join(normalise(text).split()[:5]) for text in requests(name))
    assert [start for start, n in starts.items() if n > 2] == []
    assert find_overlaps({name: requests(name)}, 0.5, within=True) == []


def test_held_out_tickets_share_no_sentence_with_training() -> None:
    train, heldout = (
        {normalise(part) for text, _ in tickets(name) for part in re.split(r"(?<=[.?!]) ", text)} for name in TASK
    )
    assert train & heldout == set()
