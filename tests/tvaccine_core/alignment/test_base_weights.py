"""Alignment leaves the base as it was, to the bit: only the adapter trains, and what was folded is taken out again."""

import json
from contextlib import nullcontext
from itertools import count

import pytest
import torch
from safetensors.torch import load_file

from tvaccine_core.alignment import run as run_module
from tvaccine_core.alignment.efficient import EfficientScheme
from tvaccine_core.alignment.methods import METHODS, alignment_config
from tvaccine_core.alignment.selection import LayerSchedule
from tvaccine_core.training.stop import Stopped

SHORT = {"steps": 4, "batch_size": 2, "save_every": 2, "max_length": 128, "seed": 5, "weight_decay": 0.1}
SPECIAL = {"t_vaccine": {"gamma": 1, "draw_every": 2}, "tar": {"inner_steps": 2, "measure_every": 1}}
FOLDED = {"method": "t_vaccine", **SHORT, "gamma": 1, "freeze_scope": "layer", "fold_frozen": True}
MAPS = 7  # linear maps of a layer


@pytest.fixture
def files(tmp_path):
    from tiny_models import chat_rows

    def write(name, answer):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in chat_rows(8, answer=answer)), encoding="utf-8")
        return path

    return write("alignment.jsonl", "I'm sorry, I can't."), write("harmful.jsonl", "Mix flour.")


class WatchedBase:
    """The base that a run loads, and copies of its tensors made when it was loaded."""

    def __init__(self):
        self.model = None
        self.loaded = {}

    def take(self, base):
        self.model = base.model
        self.loaded = {name: tensor.detach().clone() for name, tensor in self.tensors().items()}
        assert any("rotary" in name for name in self.loaded)  # buffers are among them
        return base

    def tensors(self):
        """Parameters and buffers of the base by the names they had before it got an adapter."""
        named = [*self.model.named_parameters(), *self.model.named_buffers()]
        return {name.replace(".base_layer.", "."): tensor for name, tensor in named if ".lora_" not in name}

    def changed(self):
        now = self.tensors()
        assert now.keys() == self.loaded.keys()
        return {name for name, tensor in now.items() if not torch.equal(tensor, self.loaded[name])}


@pytest.fixture
def base(monkeypatch):
    watched, load = WatchedBase(), run_module.load_base
    monkeypatch.setattr(run_module, "load_base", lambda *args, **kwargs: watched.take(load(*args, **kwargs)))
    return watched


@pytest.fixture
def align(tiny_base, files, tmp_path):
    def start(settings, **kwargs):
        config = alignment_config(settings)
        run_module.align(
            str(tiny_base("llama")), *files, tmp_path / "out", config, dtype="float32", device="cpu", **kwargs
        )
        return load_file(tmp_path / "out" / "adapter_model.safetensors")

    return start


@pytest.fixture
def in_turn(monkeypatch):
    """Layers are drawn one after the other: what trained in one window is folded in the next."""
    places = count()

    def draw(self):
        self.selected = (next(places) % self.layers,)
        return self.selected

    monkeypatch.setattr(LayerSchedule, "draw", draw)


@pytest.mark.parametrize("method", METHODS)
def test_a_whole_run_changes_the_adapter_and_nothing_of_the_base(base, align, method):
    adapter = align({"method": method, **SHORT, **SPECIAL.get(method, {})})
    assert base.changed() == set()
    assert sum(float(tensor.abs().sum()) for name, tensor in adapter.items() if "lora_B" in name) > 0


@pytest.mark.parametrize("stops", [False, True], ids=["to its end", "stopped inside a window"])
def test_what_was_folded_into_the_base_is_taken_out_again(base, align, in_turn, stops):
    folded = []

    def should_stop():
        folded.append(len(base.changed()))
        return stops and len(folded) == 4

    with pytest.raises(Stopped) if stops else nullcontext():
        align({**FOLDED, "draw_every": 2}, should_stop=should_stop)
    # Asked before the first step and after each but the last; adapters that never trained are zero and change nothing.
    assert folded == [0, 0, 0, MAPS]
    assert base.changed() == set()


def test_a_run_that_fails_inside_a_step_takes_it_out_too(base, align, in_turn, monkeypatch):
    folded, step = [], EfficientScheme.step

    def failing(self, inputs, backward):
        def cut(loss):
            raise RuntimeError("power cut")

        folded.append(len(base.changed()))
        return step(self, inputs, cut if len(folded) == 2 else backward)

    monkeypatch.setattr(EfficientScheme, "step", failing)
    with pytest.raises(RuntimeError, match="power cut"):
        align({**FOLDED, "draw_every": 1})
    assert folded == [0, MAPS]
    assert base.changed() == set()
