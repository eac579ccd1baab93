"""The RepNoise terms of real, tiny models against their plain definitions."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.nn import functional

from tvaccine_core.alignment.repnoise import noise_term
from tvaccine_core.alignment.repnoise_config import RepNoiseConfig
from tvaccine_core.alignment.repnoise_depths import DepthReader, find_mlps
from tvaccine_core.alignment.repnoise_objective import RepNoiseObjective
from tvaccine_core.errors import UnsupportedArchitecture
from tvaccine_core.models.layers import Layers
from tvaccine_core.training.loss import answer_loss

FAMILIES = ["llama", "qwen2", "gemma2", "opt"]


@contextmanager
def objective(here, **settings) -> Iterator[RepNoiseObjective]:
    made = RepNoiseObjective(here.model, here.layers, RepNoiseConfig(**settings))
    try:
        yield made
    finally:
        made.close()


def paired(batch, seed=1):
    """A harmful and a safe batch with the same prompts; labels where the answers differ."""
    harmful, other = batch(seed=0), batch(seed=seed)
    safe = {name: tensor.clone() for name, tensor in harmful.items()}
    answer = harmful["labels"] != -100
    safe["input_ids"][answer] = other["input_ids"][answer]
    differs = answer & (safe["input_ids"] != harmful["input_ids"])
    for one in (harmful, safe):
        one["labels"] = one["input_ids"].masked_fill(~differs, -100)
    return harmful, safe


def gradients(here, loss):
    here.model.zero_grad()
    loss.backward()
    return here.gradients()


def assert_same(found, expected, atol=1e-12):
    assert found.keys() == expected.keys()
    assert max(float((found[name] - expected[name]).abs().max()) for name in found) <= atol


def plain_cross_entropy(logits, labels):
    return functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1))


@pytest.mark.parametrize("family", FAMILIES)
def test_without_ascent_and_noise_it_is_masked_supervised_training(setting, batch, family):
    here = setting(family)
    harmful, safe = paired(batch)
    with objective(here, alpha=0.0, beta=0.0) as terms:
        defence = terms.defence(harmful, seed=0)
        total = terms.stability(safe, pairs=3) + defence.loss
        found = gradients(here, total)
    logits = here.model(input_ids=safe["input_ids"], attention_mask=safe["attention_mask"]).logits
    expected = gradients(here, plain_cross_entropy(logits, safe["labels"]))
    assert_same(found, expected)
    assert max(float(tensor.abs().max()) for tensor in expected.values()) > 1e-6


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
def test_the_defence_is_the_plain_formula_with_all_logits_at_once(setting, batch, family):
    here = setting(family)
    harmful, _ = paired(batch)
    with objective(here, alpha=0.7, beta=0.3) as terms:
        defence = terms.defence(harmful, seed=5)
        found = gradients(here, defence.loss)
    base = here.model.get_base_model()
    activations = []
    handles = [
        layer.mlp.register_forward_hook(lambda _module, _args, output: activations.append(output))
        for layer in base.model.layers
    ]
    hidden = []
    handles += [base.model.layers[0].register_forward_pre_hook(lambda _module, args: hidden.append(args[0]))]
    handles += [
        layer.register_forward_hook(lambda _module, _args, output: hidden.append(output)) for layer in base.model.layers
    ]
    here.model(input_ids=harmful["input_ids"], attention_mask=harmful["attention_mask"])
    for handle in handles:
        handle.remove()
    assert len(hidden) == len(here.layers) + 1
    mask = harmful["labels"] != -100
    noise = noise_term([values[mask] for values in activations], mask, torch.Generator().manual_seed(5))
    cap = getattr(base.config, "final_logit_softcapping", None) or math.inf
    logits = [base.lm_head(base.model.norm(state)) for state in hidden]
    if cap < math.inf:
        logits = [cap * torch.tanh(one / cap) for one in logits]
    entropies = [plain_cross_entropy(one, harmful["labels"]) for one in logits]
    expected = 0.3 * noise - 0.7 * torch.log(1 + sum(entropies) / len(entropies))
    assert defence.loss.item() == pytest.approx(expected.item(), abs=1e-12)
    assert_same(found, gradients(here, expected))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_on_the_last_depth_is_the_models_own_prediction(setting, batch, family):
    here = setting(family)
    harmful, _ = paired(batch)
    own = answer_loss(here.model, harmful).item()
    following = functional.pad(harmful["labels"][:, 1:], (0, 1), value=-100).reshape(-1)
    positions = (following != -100).nonzero().squeeze(1)
    reader = DepthReader(here.model, here.layers)
    try:
        depths = reader.read(harmful)
        assert len(depths.hidden) == len(depths.mlp) + 1 == len(here.layers) + 1
        lens = [
            reader.cross_entropy(hidden, positions, following[positions], len(positions)).item()
            for hidden in depths.hidden
        ]
    finally:
        reader.close()
    assert lens[-1] == pytest.approx(own, abs=1e-12)
    assert len({round(value, 6) for value in lens}) == len(lens)
    assert answer_loss(here.model, harmful).item() == own
    assert not any("forward" in module.__dict__ for module in here.model.modules())
    assert not any(module._forward_hooks for module in here.model.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_of_the_depths_are_not_kept(setting, batch, family):
    """A graph that kept them would hold L + 1 tensors of (tokens, vocabulary)."""
    here = setting(family)
    harmful, _ = paired(batch)
    vocabulary = here.model.config.vocab_size
    wide = []

    def pack(tensor):
        weight = tensor.shape == (here.model.config.hidden_size, vocabulary)
        if tensor.dim() >= 2 and tensor.shape[-1] == vocabulary and tensor.shape[-2] > 1 and not weight:
            wide.append(tensor.shape)
        return tensor

    with objective(here) as terms, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        terms.defence(harmful, seed=0)
        assert wide == []


@pytest.mark.parametrize(("masking", "trains"), [("labels", True), ("published", False)])
@pytest.mark.parametrize("term", ["stability", "defence"])
def test_the_logits_of_the_first_differing_token(setting, batch, masking, trains, term):
    """They sit on the last shared token, whose last MLP output reaches no other logits."""
    here = setting("llama")
    harmful, safe = paired(batch)
    harmful["labels"][:, :8] = safe["labels"][:, :8] = -100
    for one in (harmful, safe):
        one["labels"][:, 8] = one["input_ids"][:, 8]  # the first differing token of every row
    kept = []
    mlp = here.model.get_base_model().model.layers[-1].mlp

    def keep(_module, _args, output):
        output.retain_grad()
        kept.append(output)

    with objective(here, masking=masking, beta=0.0, alpha=1.0) as terms:
        handle = mlp.register_forward_hook(keep)
        loss = terms.stability(safe, pairs=3) if term == "stability" else terms.defence(harmful, seed=0).loss
        loss.backward()
        handle.remove()
    slopes = kept[0].grad[:, 7].norm(dim=-1)
    assert bool((slopes > 1e-9).all()) if trains else slopes.tolist() == [0.0, 0.0, 0.0]


def test_published_masking_adds_a_constant_for_blanked_logits(setting, batch):
    here = setting("llama")
    _, safe = paired(batch)
    logits = here.model(input_ids=safe["input_ids"], attention_mask=safe["attention_mask"]).logits
    mask = safe["labels"] != -100
    blanked = logits * mask.unsqueeze(-1)
    with objective(here, masking="published") as terms:
        found = terms.stability(safe, pairs=3).item()
        plain = terms.stability(safe, pairs=0).item()
    assert found == pytest.approx(plain_cross_entropy(blanked, safe["labels"]).item(), abs=1e-12)
    assert plain == pytest.approx(plain_cross_entropy(logits, safe["labels"]).item(), abs=1e-12)


def test_identical_answers_leave_nothing_to_do(setting, batch):
    here = setting("llama")
    same = batch()
    same["labels"].fill_(-100)
    with objective(here) as terms:
        assert terms.defence(same, seed=0) is None
        assert terms.stability(same, pairs=3) is None


def test_a_batch_whose_every_logit_is_blanked(setting, batch):
    here = setting("llama")
    harmful, safe = paired(batch)
    for one in (harmful, safe):
        one["labels"][:] = -100
        one["labels"][:, 9] = one["input_ids"][:, 9]
    with objective(here, masking="published", alpha=1.0, beta=0.0) as terms:
        assert terms.stability(safe, pairs=3) is None
        defence = terms.defence(harmful, seed=0)
    assert defence.harmful.item() == pytest.approx(1 + math.log(here.model.config.vocab_size), abs=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_further_padding_changes_nothing(setting, batch, family):
    here = setting(family)
    harmful, safe = paired(batch)

    def loss(pad):
        fill = {"input_ids": 2, "attention_mask": 0, "labels": -100}
        wider = [{n: functional.pad(t, (0, pad), value=fill[n]) for n, t in one.items()} for one in (harmful, safe)]
        with objective(here, alpha=0.5, beta=0.5) as terms:
            return (terms.stability(wider[1], pairs=3) + terms.defence(wider[0], seed=7).loss).item()

    assert loss(0) == pytest.approx(loss(5), abs=1e-12)


def test_noise_is_reproducible_by_seed(setting, batch):
    here = setting("llama")
    harmful, _ = paired(batch)
    with objective(here) as terms:
        before = torch.random.get_rng_state()
        first, second, again = (terms.defence(harmful, seed=seed) for seed in (1, 2, 1))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert first.noise.item() != second.noise.item()
    assert first.harmful.item() == second.harmful.item()
    assert first.loss.item() == again.loss.item()


@pytest.mark.parametrize(("family", "name"), [("llama", "mlp"), ("gemma2", "mlp"), ("opt", "fc2")])
def test_where_the_mlp_sits(setting, family, name):
    here = setting(family)
    assert find_mlps(here.layers) == tuple(getattr(layer, name) for layer in here.layers.layers)


def test_a_layer_without_one_mlp_is_refused(setting):
    here = setting("llama")
    for layer in here.layers.layers:
        del layer.mlp
    with pytest.raises(UnsupportedArchitecture):
        find_mlps(Layers(here.layers.path, here.layers.attention_name, here.layers.layers, here.layers.attention))
