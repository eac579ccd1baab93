import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tvaccine_core.evaluation.judge import categories
from tvaccine_core.evaluation.judge.categories import categorised_pairs, fit_categories
from tvaccine_core.evaluation.judge.probe import Probe, ProbeJudge
from tvaccine_core.evaluation.judge.rows import JudgeRow
from tvaccine_core.evaluation.judge.taxonomy import CATEGORIES
from tvaccine_core.evaluation.judge.verdict import judge_pairs

NAMES = ["hate", "violence", "sexual"]


def separable(names: list[str], rows: int = 20) -> tuple[np.ndarray, list[str]]:
    draw = np.random.default_rng(0)
    labels = [name for name in names for _ in range(rows)]
    features = draw.normal(size=(len(labels), 6)) * 3 + 7
    for index, name in enumerate(labels):
        features[index, names.index(name)] += 40
    return features.astype(np.float32), labels


@pytest.mark.parametrize("names", [NAMES, NAMES[:2]])
def test_categories_that_differ_are_told_apart(names: list[str]) -> None:
    features, labels = separable(names)
    head = fit_categories(features, labels)
    assert head is not None
    shares = head.shares(torch.from_numpy(features))
    assert [max(share, key=lambda name: share[name]) for share in shares] == labels
    assert all(sum(share.values()) == pytest.approx(1, abs=1e-5) for share in shares)


def test_rare_categories_and_lone_ones_are_left_out() -> None:
    features, labels = separable(NAMES)
    rare = fit_categories(features[:43], labels[:43])
    assert rare is not None
    assert set(rare.names) == {"hate", "violence"}
    assert fit_categories(features[:23], labels[:23]) is None


def test_a_judge_with_categories_survives_its_file(
    load_tiny: Callable[..., Any], random_probe: Callable[..., Any], tmp_path: Path
) -> None:
    base = load_tiny()
    probe = random_probe(base)
    pairs = [(f"Question {i}", f"{'one two' if i % 2 else 'nine ten'} {i}") for i in range(24)]
    features = ProbeJudge(probe, base).read(pairs).numpy()
    head = fit_categories(features, [NAMES[i % 2] for i in range(24)])
    told = replace(probe, categories=head)
    assert told.version != probe.version
    told.save(tmp_path)
    judge = ProbeJudge(Probe.load(tmp_path), load_tiny())
    assert judge.version == told.version
    for verdict, plain in zip(judge_pairs(judge, pairs), judge_pairs(ProbeJudge(probe, base), pairs), strict=True):
        assert verdict.score == pytest.approx(plain.score, abs=1e-6)
        assert set(verdict.categories) == {"hate", "violence"}
        assert sum(verdict.categories.values()) == pytest.approx(verdict.score, abs=1e-5)
    assert judge_pairs(judge, [("Hi", " ")])[0].categories == {}


def test_separators_within_a_demo_row_are_no_line_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [{"role": "user", "content": "Ask"}, {"role": "assistant", "content": "one\u2028two\u0085three"}]
    line = json.dumps({"messages": turns, "category": "theft"}, ensure_ascii=False) + "\n"
    (tmp_path / "demo.jsonl").write_text(line * 10, "utf-8")
    monkeypatch.setattr(categories, "demo_file", lambda _name: tmp_path / "demo.jsonl")
    assert categorised_pairs([]) == ([("Ask", "one\u2028two\u0085three")] * 20, ["illicit"] * 20)


def test_known_categories_come_from_labelled_rows_and_the_demo() -> None:
    rows = [
        JudgeRow("", "a", 1, "openai_moderation_1680", "train", ("hate", "hate/threatening")),
        JudgeRow("", "b", 1, "openai_moderation_1680", "train", ("hate",)),
        JudgeRow("", "c", 0, "openai_moderation_1680", "train", ("hate",)),
        JudgeRow("", "d", 1, "gptfuzz_labelled", "train"),
    ]
    pairs, names = categorised_pairs(rows)
    assert dict(zip(pairs[:2], names[:2], strict=True)) == {("", "a"): "hate/threatening", ("", "b"): "hate"}
    assert len(pairs) > 100
    assert set(names) <= set(CATEGORIES)
    assert {"illicit", "violence", "harassment"} <= set(names[2:])
