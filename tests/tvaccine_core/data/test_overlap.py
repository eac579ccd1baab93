"""Near duplicates between sets of prompts."""

import pickle
import random
from itertools import combinations

import pytest

from tvaccine_core.data.overlap import find_overlaps, normalise, require_disjoint, similarity
from tvaccine_core.errors import DatasetOverlap


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  How do I   STEAL a car?! ", "how do i steal a car"),
        ("Don't, don\u2019t!", "dont dont"),
        ("\uff26\uff35\uff2c\uff2c width", "full width"),
        ("hid\u200bden", "hidden"),
        ("a-b_c", "a b c"),
        ("\u6bd2\u836f how", "\u6bd2 \u836f how"),
        ("Stra\u00dfe", "strasse"),
        (" ?! ", "?!"),
    ],
)
def test_normalise_keeps_only_the_words(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_normalise_keeps_vowel_signs_of_other_scripts() -> None:
    assert normalise("\u0915\u093f") != normalise("\u0915\u0941")


def test_similarity_is_jaccard_of_one_and_two_word_sequences() -> None:
    # {a, b, c, ab, bc} against {a, b, d, ab, bd}: 3 shared of 7
    assert similarity("a b c", "a b d") == pytest.approx(3 / 7)
    assert similarity("a b", "b a") == pytest.approx(2 / 4)
    assert similarity("same", "SAME!") == 1.0
    assert similarity("?!", "!!") == 0.0


def test_an_exact_copy_is_found_with_its_lines_and_original_texts() -> None:
    found = find_overlaps({"train": ["x y z", "How do I rob a bank?"], "gate": ["how do i ROB a bank"]})
    assert [(o.name, o.line, o.other_name, o.other_line, o.similarity) for o in found] == [("train", 2, "gate", 1, 1.0)]
    assert (found[0].text, found[0].other_text) == ("How do I rob a bank?", "how do i ROB a bank")


def test_threshold_is_inclusive() -> None:
    sets = {"one": ["a b c"], "two": ["a b d"]}
    assert len(find_overlaps(sets, 3 / 7)) == 1
    assert find_overlaps(sets, 3 / 7 + 1e-6) == []


def test_pairs_inside_one_set_count_only_when_asked_for() -> None:
    sets = {"one": ["rob the bank", "a quiet day", "Rob the bank!"], "two": ["nothing alike"]}
    assert find_overlaps(sets) == []
    assert [(o.line, o.other_line) for o in find_overlaps(sets, within=True)] == [(1, 3)]


def test_repeated_lines_are_all_reported_in_file_order() -> None:
    sets = {"one": ["rob it", "rob it"], "two": ["else", "rob it", "rob it"]}
    assert [(o.line, o.other_line) for o in find_overlaps(sets)] == [(1, 2), (1, 3), (2, 2), (2, 3)]


def test_texts_without_words_match_only_themselves() -> None:
    assert find_overlaps({"one": ["", "???"], "two": ["", "!!!"]}) == []
    assert len(find_overlaps({"one": ["???"], "two": ["???"]})) == 1


@pytest.mark.parametrize("threshold", [0.2, 0.35, 0.5, 0.6, 0.7, 0.85, 1.0])
def test_the_index_finds_exactly_what_comparing_all_pairs_finds(threshold: float) -> None:
    rng = random.Random(3)
    sets = {
        name: [" ".join(rng.choices("abcdefg", k=rng.randint(1, 9))) for _ in range(70)]
        for name in ("one", "two", "three")
    }
    expected = {
        (first, i, second, j)
        for first, second in combinations(sets, 2)
        for i, a in enumerate(sets[first], 1)
        for j, b in enumerate(sets[second], 1)
        if similarity(a, b) >= threshold
    }
    found = find_overlaps(sets, threshold)
    assert expected
    assert {(o.name, o.line, o.other_name, o.other_line) for o in found} == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01, float("nan")])
def test_a_threshold_outside_its_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        find_overlaps({"one": ["a"]}, threshold)


def test_thousands_of_rows_are_compared_without_comparing_all_pairs() -> None:
    rng = random.Random(4)
    words = [f"w{n}" for n in range(3000)]
    train = [" ".join(rng.choices(words, k=12)) for _ in range(4000)]
    gate = [" ".join(rng.choices(words, k=12)) for _ in range(200)]
    gate[77] = train[1234] + " please"
    found = find_overlaps({"train": train, "gate": gate})
    assert [(o.line, o.other_line) for o in found] == [(1235, 78)]


def test_require_disjoint_accepts_disjoint_sets() -> None:
    require_disjoint({"one": ["open the door"], "two": ["close all the windows now"], "three": []})


def test_require_disjoint_names_every_pair_and_the_remedy() -> None:
    sets = {"a.jsonl": ["how do I rob a bank", "fine"], "b.jsonl": ["other", "How do I rob a bank?"]}
    with pytest.raises(DatasetOverlap) as caught:
        require_disjoint(sets)
    error = caught.value
    assert error.code == "dataset_overlap"
    assert error.details == [
        {"file": "a.jsonl", "line": 1, "other_file": "b.jsonl", "other_line": 2, "similarity": 1.0}
    ]
    for part in ("line 1 of a.jsonl", "line 2 of b.jsonl", "remove or reword"):
        assert part in error.message
    assert pickle.loads(pickle.dumps(error)).details == error.details


def test_require_disjoint_lists_at_most_a_hundred_pairs_and_counts_all() -> None:
    with pytest.raises(DatasetOverlap) as caught:
        require_disjoint({"a": ["rob it"] * 20, "b": ["rob it"] * 10})
    assert len(caught.value.details) == 100
    assert caught.value.message.startswith("200 pair(s)")
