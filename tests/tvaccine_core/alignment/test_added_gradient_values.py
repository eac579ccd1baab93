"""The gradients of Booster and TAR against plain ones, in float64."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from tests.tvaccine_core.alignment.added_gradient_runs import BOOSTER, TAR, Build, Watched, lines, trained, vaccine
from tvaccine_core.alignment.booster_trainer import BoosterTrainer
from tvaccine_core.alignment.loss import shifted_cross_entropy
from tvaccine_core.alignment.tar_trainer import TarTrainer


def full_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return shifted_cross_entropy(model(batch["input_ids"], batch["attention_mask"]).logits, batch["labels"])


def weighted_gradient(model: nn.Module, batches: list[dict[str, Tensor]], weights: list[nn.Parameter]) -> list[Tensor]:
    """Of the mean loss over all supervised tokens of all batches."""
    counts = [int((batch["labels"][:, 1:] != -100).sum()) for batch in batches]
    loss = sum(n * full_loss(model, batch) for n, batch in zip(counts, batches, strict=True)) / sum(counts)
    return list(torch.autograd.grad(loss, weights))


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "opt"])
@pytest.mark.parametrize("scheme", ["efficient", "two_pass"])
def test_boosters_gradient_equals_three_plain_ones(make_trainer: Build, family: str, scheme: str) -> None:
    """In float64, with accumulated micro-batches of different sizes and a harmful batch worked on in parts."""
    config = dataclasses.replace(BOOSTER, steps=1, lora_dropout=0.0, scheme=scheme, max_grad_norm=0.0)
    double = {"dtype": torch.float64, "adapter": torch.float64, "family": family}
    watched = Watched(BoosterTrainer)
    model = vaccine(config, family, torch.float64, torch.float64).eval()
    trainer = make_trainer(config, kind=watched.kind, **double)
    for module in (*trainer.model.modules(), *model.modules()):
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    trained(trainer)
    names, weights = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    aligned = weighted_gradient(model, watched.batches, list(weights))
    before = weighted_gradient(model, watched.streamed, list(weights))
    length = torch.sqrt(sum(((gradient**2).sum() for gradient in before), torch.tensor(0.0)))
    for parameter, gradient in zip(weights, before, strict=True):
        parameter.data -= config.alpha * gradient / (length + 1e-7)
    after = weighted_gradient(model, watched.streamed, list(weights))
    assert len(watched.batches) == 2
    assert watched.streamed[0]["labels"].shape[0] == 5
    for name, f, h, moved in zip(names, aligned, before, after, strict=True):
        assert torch.allclose(watched.gradients[name], f + config.lamb * (h - moved), rtol=0.0, atol=1e-12)
    (line,) = lines(trainer)
    assert line["harmful_loss_after"] < line["harmful_loss"]
    assert line["harmful_gradient_norm"] == pytest.approx(float(length))
    assert line["alignment_gradient_norm"] == pytest.approx(float(torch.cat([g.reshape(-1) for g in aligned]).norm()))


@pytest.mark.parametrize("scheme", ["efficient", "two_pass"])
def test_tars_gradient_equals_a_plain_simulation(make_trainer: Build, scheme: str) -> None:
    """Two attackers by gradient descent, in float64, against a loop of plain gradients."""
    config = dataclasses.replace(
        TAR,
        steps=1,
        inner_steps=4,
        measure_every=2,
        heldout_batch_size=5,
        attacker="sgd",
        attacker_learning_rates=(0.5,),
        lora_dropout=0.0,
        scheme=scheme,
    )
    watched = Watched(TarTrainer)
    trainer = make_trainer(config, kind=watched.kind, dtype=torch.float64, adapter=torch.float64)
    trained(trainer)
    model = vaccine(config, "llama", torch.float64, torch.float64)
    weights = [p for p in model.parameters() if p.requires_grad]
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    start = [p.detach().clone() for p in weights]
    expected = weighted_gradient(model, watched.batches, weights)
    losses = []
    for attack in (watched.streamed[:5], watched.streamed[5:]):  # each: the held-out batch, then four to train on
        for k, batch in enumerate(attack[1:]):
            for parameter, gradient in zip(weights, weighted_gradient(model, [batch], weights), strict=True):
                parameter.data -= 0.5 * gradient
            if k in (1, 3):
                answers = attack[0]["labels"][:, 1:] != -100
                logits = model(attack[0]["input_ids"], attack[0]["attention_mask"]).logits[:, :-1][answers]
                loss = -torch.distributions.Categorical(logits=logits).entropy().mean()
                weight = config.lambda_tr / 2 * torch.exp(torch.tensor(config.lambda_s * (k - 3), dtype=torch.float64))
                losses.append(float(weight * loss.detach()))
                for total, gradient in zip(expected, torch.autograd.grad(loss, weights), strict=True):
                    total += weight * gradient
        for parameter, kept in zip(weights, start, strict=True):
            parameter.data.copy_(kept)
    for name, gradient in zip(names, expected, strict=True):
        assert torch.allclose(watched.gradients[name], gradient, rtol=0.0, atol=1e-12)
    (line,) = lines(trainer)
    assert line["tr_loss"] == pytest.approx(sum(losses))
    assert (line["attacker_learning_rate"], line["bound_hit"]) == (0.5, 0.0)
