"""Windows in the trainer of a whole run: drawn from the probe just before, and what is frozen keeps every bit."""

import json
from itertools import pairwise

import pytest
import torch
from transformers import TrainerCallback

from tvaccine_core.alignment import run as run_module
from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.alignment.run import align
from tvaccine_core.training.metrics import read_metrics

SHORT = {
    "steps": 4, "gamma": 1, "draw_every": 2, "probe_every": 2, "probe_batch": 3, "batch_size": 3, "save_every": 100
}  # fmt: skip


@pytest.fixture
def train(tiny_base, tmp_path, monkeypatch):
    """Call with a kind of trainer and settings: that trainer after a run on a base of three layers, and its folder."""
    from tiny_models import chat_rows

    files = tmp_path / "alignment.jsonl", tmp_path / "harmful.jsonl"
    for path, answer in zip(files, ("I'm sorry, I can't.", "Mix flour."), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in chat_rows(9, answer=answer)), encoding="utf-8")

    def start(kind, **settings):
        made = []
        monkeypatch.setattr(run_module, "TVaccineTrainer", lambda **given: made.append(kind(**given)) or made[0])
        out, config = tmp_path / "out", TVaccineConfig(**SHORT, **settings)
        align(str(tiny_base("llama")), *files, out, config, dtype="float32", device="cpu")
        return made[0], out

    return start


def test_a_draw_follows_the_probe_of_the_same_step(train):
    norms = [[1.0, 2.0, 9.0], [9.0, 2.0, 1.0]]
    coming = iter(norms)

    class Probed(run_module.TVaccineTrainer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.scheme.probe = lambda inputs, rows: next(coming)

    _, out = train(Probed, select="topk")
    report = json.loads((out / "report.json").read_text())
    assert [(probe["step"], probe["norms"]) for probe in report["probes"]] == [(0, norms[0]), (2, norms[1])]
    assert report["draws"] == [{"step": 0, "selected": [2]}, {"step": 2, "selected": [0]}]
    assert [line["lowest_layer"] for line in read_metrics(out / "metrics.jsonl")] == [2, 2, 0, 0]


class StepEnd(TrainerCallback):
    def __init__(self, call):
        self._call = call

    def on_step_end(self, *args, **kwargs):
        self._call()


class Watched(run_module.TVaccineTrainer):
    """Draws every layer and then the middle one; copies all adapters and their moments at the end of each step."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.taken = []
        self.named = {name: p for name, p in self.model.named_parameters() if ".lora_" in name}
        self.draws = iter([(0, 1, 2), (1,)])
        self.schedule.draw = self.draw
        self.add_callback(StepEnd(self.look))

    def draw(self):
        self.schedule.selected = next(self.draws)
        return self.schedule.selected

    def look(self):
        state = self.optimizer.state
        moments = {name: {k: v.clone() for k, v in state[p].items()} for name, p in self.named.items()}
        weights = {name: p.detach().clone() for name, p in self.named.items()}
        on = {id(p) for p in self.window.trainable}
        self.taken.append((weights, moments, {name for name, p in self.named.items() if id(p) in on}))


@pytest.mark.parametrize("fold_frozen", [False, True])
@pytest.mark.parametrize("scope", ["attention", "layer"])
def test_frozen_adapters_and_their_moments_keep_their_bits(train, scope, fold_frozen):
    trainer, _ = train(Watched, scheme="efficient", freeze_scope=scope, fold_frozen=fold_frozen, weight_decay=0.1)
    frozen = {n for n in trainer.named if ".layers.1." not in n and (scope == "layer" or ".self_attn." in n)}
    assert [len(trainer.named) - len(on) for _, _, on in trainer.taken] == [0, 0, len(frozen), len(frozen)]
    for (weights, moments, _), (later, moved, on) in list(pairwise(trainer.taken))[1:]:
        assert trainer.named.keys() - on == frozen
        for name in trainer.named:
            assert moments[name].keys() == moved[name].keys() == {"step", "exp_avg", "exp_avg_sq"}
            if name in on:
                assert moved[name]["step"] == moments[name]["step"] + 1
                assert not torch.equal(weights[name], later[name])
            else:
                assert torch.equal(weights[name], later[name])
                assert all(torch.equal(value, moved[name][kind]) for kind, value in moments[name].items())
    registered = [id(p) for group in trainer.optimizer.param_groups for p in group["params"]]
    assert sorted(registered) == sorted(id(p) for p in trainer.named.values())
