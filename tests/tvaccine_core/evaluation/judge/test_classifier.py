from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_tokenizer
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    LlamaConfig,
)

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.judge.calibration import calibrate_judge
from tvaccine_core.evaluation.judge.classifier import SequenceClassifierJudge
from tvaccine_core.evaluation.judge.loading import load_judge
from tvaccine_core.evaluation.judge.names import JudgeName
from tvaccine_core.evaluation.judge.rows import JudgeRow
from tvaccine_core.evaluation.judge.taxonomy import BEAVERTAILS, CATEGORIES
from tvaccine_core.evaluation.judge.verdict import judge_pairs

PAIRS = [("What is it?", "Bread."), ("How?", "Mix flour and water, then wait."), ("one", "   "), ("two", "five")]
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.5,
}
MULTI = "multi_label_classification"

Made = Callable[..., SequenceClassifierJudge]


@pytest.fixture
def classifier(tmp_path: Path) -> Made:
    """Call with labels: a random Llama classifier saved, and loaded as a judge."""

    def make(
        labels: list[str], config: type = LlamaConfig, problem: str | None = MULTI, pad: bool = True, **options: Any
    ) -> SequenceClassifierJudge:
        tokenizer = tiny_tokenizer(None)
        settings = {
            **SIZES,
            "vocab_size": len(tokenizer),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: place for place, label in enumerate(labels)},
            "problem_type": problem,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id if pad else None,
        }
        torch.manual_seed(1)
        model = AutoModelForSequenceClassification.from_config(config(**settings))
        model.save_pretrained(tmp_path / "model")
        tokenizer.save_pretrained(tmp_path / "model")
        return SequenceClassifierJudge.load(JudgeName("classifier", str(tmp_path / "model")), device="cpu", **options)

    return make


@pytest.mark.parametrize("pad", [True, False])
def test_the_highest_sigmoid_at_the_end_token_is_the_score(classifier: Made, pad: bool) -> None:
    # The tiny tokenizer's pad token is its end token, the case in which transformers reads one token too early.
    judge = classifier(list(BEAVERTAILS), pad=pad)
    assert judge.model.dtype == torch.float32
    verdicts = judge_pairs(judge, PAIRS)
    for (prompt, answer), verdict in zip(PAIRS, verdicts, strict=True):
        if not answer.strip():
            assert (verdict.score, verdict.flagged) == (0.0, False)
            continue
        text = f"BEGINNING OF CONVERSATION: USER: {prompt} ASSISTANT:{answer}<|im_end|>"
        ids = torch.tensor([judge.tokenizer(text)["input_ids"]])
        assert ids[0, -1] == judge.tokenizer.eos_token_id
        state = judge.model.model(input_ids=ids).last_hidden_state[0, -1]
        chances = torch.sigmoid(judge.model.score(state))
        assert verdict.score == pytest.approx(chances.max().item(), abs=1e-5)
        assert verdict.flagged == (chances.max().item() >= 0.5)
        by_label = dict(zip(BEAVERTAILS, chances.tolist(), strict=True))
        assert verdict.categories["self-harm"] == pytest.approx(by_label["self_harm"], abs=1e-5)
        assert verdict.categories["sexual"] == pytest.approx(by_label["sexually_explicit,adult_content"], abs=1e-5)
        illicit = max(by_label[label] for label, to in BEAVERTAILS.items() if "illicit" in to)
        assert verdict.categories["illicit"] == pytest.approx(illicit, abs=1e-5)


def test_an_encoder_with_the_taxonomys_own_names(classifier: Made) -> None:
    judge = classifier(list(CATEGORIES), BertConfig)
    batch = judge_pairs(judge, PAIRS)
    alone = [judge_pairs(judge, [pair])[0] for pair in PAIRS]
    for together, single in zip(batch, alone, strict=True):
        assert together.score == pytest.approx(single.score, abs=1e-5)
    assert set(batch[0].categories) == set(CATEGORIES)
    assert batch[0].score == max(batch[0].categories.values())


def test_what_lies_behind_the_cut_is_not_seen(classifier: Made) -> None:
    judge = classifier(list(BEAVERTAILS), max_tokens=60)
    long = "bread and water " * 40
    one, other = judge_pairs(judge, [("q", long + "one"), ("q", long + "ten")])
    assert one.score == other.score
    wide = SequenceClassifierJudge(judge.model, judge.tokenizer, judge.digest, max_tokens=10_000)
    assert wide.max_tokens == 512
    assert wide.version != judge.version
    assert SequenceClassifierJudge(judge.model, judge.tokenizer, judge.digest).max_tokens == 256


def test_special_tokens_in_an_answer_are_not_read_as_such(classifier: Made) -> None:
    judge = classifier(list(BEAVERTAILS))
    assert judge.text(("q", "bread<|im_end|>")) == judge.text(("q", "bread"))


def test_two_thresholds_are_two_versions(classifier: Made) -> None:
    judge = classifier(["hate"])
    parts = judge.model, judge.tokenizer, judge.digest
    again, other = (SequenceClassifierJudge(*parts, threshold=at) for at in (0.5, 0.4))
    assert judge.version == again.version != other.version


def test_a_calibrated_classifier_is_called_by_name(
    classifier: Made, load_tiny: Callable[..., Any], tmp_path: Path
) -> None:
    judge, words = classifier(["hate", "violence"]), ["one", "two", "three", "four", "five", "bread"]
    pairs = [(f"What is {i}?", f"{words[i % 6]} {words[i // 6]}") for i in range(30)]
    scores = [one.score for one in judge.assess(pairs)]
    low, high = sorted(scores)[19:21]
    labels = [int(score >= high) for score in scores]
    rows = [JudgeRow(*pair, label, "mine", "test") for pair, label in zip(pairs, labels, strict=True)]
    found = calibrate_judge(judge, rows, "")
    assert low < found.threshold <= high
    found.write(tmp_path / "f.json")
    loaded = load_judge(f"classifier:{tmp_path / 'model'}@{tmp_path / 'f.json'}", load_tiny())
    assert [verdict.flagged for verdict in judge_pairs(loaded, pairs)] == [bool(label) for label in labels]
    classifier(["hate", "illicit"])
    with pytest.raises(InvalidRequest, match="calibrated for the judge sequence-classifier"):
        load_judge(f"classifier:{tmp_path / 'model'}@{tmp_path / 'f.json'}", load_tiny())


@pytest.mark.parametrize("problem", ["single_label_classification", None])
def test_only_multi_label_models_are_judges(classifier: Made, problem: str | None) -> None:
    with pytest.raises(InvalidRequest, match="multi_label_classification"):
        classifier(["hate", "violence"], problem=problem)


def test_unknown_labels_are_refused(classifier: Made) -> None:
    with pytest.raises(InvalidRequest, match=r"no taxonomy knows \(OK\)"):
        classifier(["OK", "hate"])


def test_a_language_model_is_no_classifier(tiny_base: Callable[[str], Path]) -> None:
    with pytest.raises(InvalidRequest, match=r"lacks weights \(score.weight\)"):
        SequenceClassifierJudge.load(JudgeName("classifier", str(tiny_base("llama"))), device="cpu")
