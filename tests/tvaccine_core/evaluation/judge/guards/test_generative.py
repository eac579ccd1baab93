"""What all guards share: long texts, versions, and models that are not what they are said to be."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tvaccine_core.evaluation.judge.guards.conftest import HARMFUL, HARMLESS
from tests.tvaccine_core.evaluation.judge.guards.test_llama_guard import PARTS_TEMPLATE, TEXT_TEMPLATE
from tvaccine_core.errors import InvalidRequest, ScoringFailed
from tvaccine_core.evaluation.judge.guards.decoding import unsafe_share
from tvaccine_core.evaluation.judge.guards.generative import GenerativeGuard
from tvaccine_core.evaluation.judge.guards.llama_guard import LlamaGuardForm
from tvaccine_core.evaluation.judge.names import JudgeName
from tvaccine_core.evaluation.judge.verdict import judge_pairs


def load(directory: Path) -> GenerativeGuard:
    name = JudgeName("llama-guard-3", str(directory))
    return GenerativeGuard.load(LlamaGuardForm, name, device="cpu", dtype="float32")


def test_nothing_hides_behind_a_long_opening(tiny_guard: Any) -> None:
    asked = HARMLESS[0]
    lessons = [(asked, HARMFUL[1], "unsafe\nS2"), (asked, HARMLESS[1], "safe")]
    guard = tiny_guard(LlamaGuardForm, "llama", TEXT_TEMPLATE, lessons)
    opening = len(guard.tokenizer(HARMLESS[1])["input_ids"])
    guard.answer_tokens = opening
    pieces = [question.text for question in guard._questions((asked, HARMLESS[1] + HARMFUL[1]))]
    assert HARMLESS[1] in pieces[0]
    assert all(HARMLESS[1] not in piece for piece in pieces[1:])
    guard.answer_tokens = max(opening, len(guard.tokenizer(HARMFUL[1])["input_ids"]))
    filled = HARMLESS[1] + " " * (guard.answer_tokens - opening)
    assert judge_pairs(guard, [(asked, HARMLESS[1])])[0].flagged is False
    assert judge_pairs(guard, [(asked, filled + HARMFUL[1])])[0].flagged is True


def test_of_a_long_prompt_both_ends_are_shown(tiny_guard: Any) -> None:
    guard = tiny_guard(LlamaGuardForm, "llama", TEXT_TEMPLATE, prompt_tokens=20)
    text = guard._questions(("one " + "two three " * 50 + "ten", "four"))[0].text
    assert "User: one " in text
    assert " ... " in text
    assert "ten\n" in text
    assert len(guard.tokenizer(text)["input_ids"]) < 150


def test_a_text_that_does_not_fit_fails_closed(tiny_guard: Any) -> None:
    guard = tiny_guard(LlamaGuardForm, "llama", TEXT_TEMPLATE, answer_tokens=10_000)
    with pytest.raises(ScoringFailed, match="too long"):
        judge_pairs(guard, [("q", "bread " * 2000)])


def test_the_version_follows_weights_template_and_threshold(tiny_guard: Any, tmp_path: Path) -> None:
    guard = tiny_guard(LlamaGuardForm, "llama", TEXT_TEMPLATE)
    directory = tmp_path / guard.name
    assert load(directory).version == guard.version
    template = directory / "chat_template.jinja"
    template.write_text(template.read_text().replace("Task", "Work"))
    changed = load(directory).version
    assert changed != guard.version
    tell = {GenerativeGuard(guard.form, guard.model, guard.digest, threshold=at).version for at in (0.5, 0.6)}
    assert len(tell) == 2
    assert guard.version in tell
    weights = load_file(directory / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    assert load(directory).version not in (changed, guard.version)


def test_a_model_without_its_output_weights_is_no_guard(tiny_guard: Any, tmp_path: Path) -> None:
    tiny_guard(LlamaGuardForm, "llama", TEXT_TEMPLATE)
    directory = tmp_path / "llama-guard-3"
    weights = load_file(directory / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidRequest, match=r"lacks weights \(lm_head.weight\)"):
        load(directory)


@pytest.mark.parametrize(
    ("template", "fault"),
    [(PARTS_TEMPLATE.replace("content['text'] | trim", "'a message'"), "does not show"), (None, "no chat template")],
)
def test_a_template_that_shows_no_conversation_is_refused(tiny_guard: Any, template: str | None, fault: str) -> None:
    with pytest.raises(InvalidRequest, match=fault):
        tiny_guard(LlamaGuardForm, "llama", template)


def test_pickled_weights_and_empty_places_are_refused(tiny_guard: Any, tmp_path: Path) -> None:
    tiny_guard(LlamaGuardForm, "llama", TEXT_TEMPLATE)
    directory = tmp_path / "llama-guard-3"
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(InvalidRequest, match="safetensors"):
        load(directory)
    with pytest.raises(InvalidRequest, match="no model"):
        load(tmp_path)


def test_a_repository_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InvalidRequest, match="owner/missing could not be fetched"):
        GenerativeGuard.load(LlamaGuardForm, JudgeName("llama-guard-3", "owner/missing"))


def test_foreign_code_is_never_run(tiny_guard: Any, tmp_path: Path) -> None:
    tiny_guard(LlamaGuardForm, "llama", TEXT_TEMPLATE)
    directory = tmp_path / "llama-guard-3"
    config = json.loads((directory / "config.json").read_text())
    config |= {
        "model_type": "their-own",
        "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    }
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "code.py").write_text("raise SystemExit('run')\n")
    with pytest.raises(InvalidRequest):
        load(directory)


def test_the_share_of_the_unsafe_word() -> None:
    logits = torch.tensor([0.0, 2.0, 1.0, -1.0]).log_softmax(0)
    share, both = unsafe_share(logits, [1], [2, 3])
    chances = logits.exp().double()
    assert share == pytest.approx(float(chances[1] / (chances[1] + chances[2] + chances[3])))
    assert both == pytest.approx(float(1 - chances[0]))
    far = torch.tensor([0.0, -5000.0, -6000.0])
    assert unsafe_share(far, [1], [2]) == (1.0, 0.0)
