"""Panacea: the perturbation, the update that it leads to, and plain fine-tuning where there is neither."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tvaccine_core.alignment.adapter_weights import global_norm
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.finetuning import panacea as panacea_module
from tvaccine_core.finetuning.defences import Defence
from tvaccine_core.finetuning.panacea_config import PanaceaConfig
from tvaccine_core.training.loss import answer_loss
from tvaccine_core.training.metrics import read_metrics

Build = Callable[..., Any]
NEVER = 1e6  # a cap that no loss reaches


def panacea(**settings: Any) -> Defence:
    return Defence(rule=PanaceaConfig(**{"loss_cap": NEVER, **settings}))


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def scattered(build: Build, defence: Defence, **settings: Any) -> Any:
    """A trainer whose weights, the zeros of B among them, were moved a little."""
    watched = build(defence, **settings)
    generator = torch.Generator().manual_seed(7)
    for parameter in watched.trainer.parameters.values():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.05)
    return watched


def harmful_loss(watched: Any, batch: dict[str, Tensor]) -> float:
    with torch.no_grad():
        return float(answer_loss(watched.trainer.model, batch))


def next_harmful(watched: Any) -> dict[str, Tensor]:
    batch: dict[str, Tensor] = watched.trainer.harmful.next()
    watched.trainer.harmful.taken = 0
    return batch


@pytest.mark.parametrize("rho", [1e-3, 1.0, 20.0])
def test_eps_has_length_rho_along_the_gradient(build: Build, rho: float) -> None:
    watched = scattered(build, panacea(rho=rho))
    trainer = watched.trainer
    batch = next_harmful(watched)
    gradient = torch.autograd.grad(answer_loss(trainer.model, batch), list(trainer.parameters.values()))
    trainer.enter_step()
    assert float(global_norm(trainer.eps)) == pytest.approx(rho, rel=1e-6)
    inner = sum(float((e * g).sum()) for e, g in zip(trainer.eps, gradient, strict=True))
    assert inner == pytest.approx(rho * float(global_norm(gradient)), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_the_harmful_passes_leave_every_bit_of_the_weights_and_no_gradient(build: Build, dtype: str) -> None:
    watched = scattered(build, panacea(rho=3.0), dtype=dtype)
    trainer = watched.trainer
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    random_state = torch.get_rng_state()
    trainer.enter_step()
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())
    assert all(value.grad is None for value in trainer.model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    kept = [tensor.clone() for tensor in trainer.eps]
    trainer._entered = trainer.state.global_step  # this step is entered: the harmful passes are done
    trainer.training_step(trainer.model, trainer.data_collator(watched.rows.user[:3]), None)
    trainer.model.zero_grad(set_to_none=False)
    assert equal(kept, trainer.eps)  # eps is nobody's gradient buffer


def update_without_and_with(build: Build, monkeypatch: pytest.MonkeyPatch, h: Any, **settings: Any) -> Any:
    """The gradients of one step under plain fine-tuning and under Panacea with h(w) in place of the harmful loss."""
    gradients = []
    for defence in (Defence(), panacea(**settings)):
        watched = scattered(build, defence)
        trainer = watched.trainer
        parameters = list(trainer.parameters.values())
        monkeypatch.setattr(panacea_module, "answer_loss", lambda *_, p=parameters: h(p))
        trainer.training_step(trainer.model, trainer.data_collator(watched.rows.user[:3]), None)
        gradients.append([p.grad.clone() for p in parameters])
    return gradients, [p.detach() for p in parameters], trainer


def vectors(like: list[Tensor], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(p.shape, generator=generator, dtype=p.dtype) + 0.5 for p in like]


def test_with_a_linear_harmful_loss_the_update_is_that_of_fine_tuning(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def linear(parameters: list[Tensor]) -> Tensor:
        return sum((c * p).sum() for c, p in zip(vectors(parameters, 1), parameters, strict=True))  # type: ignore[return-value]

    (plain, defended), _, trainer = update_without_and_with(build, monkeypatch, linear, rho=0.5, lam=7.0)
    assert float(global_norm(trainer.eps)) == pytest.approx(0.5, rel=1e-6)
    assert equal(plain, defended)


def test_with_a_quadratic_harmful_loss_the_update_is_the_formula(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """h = w A w / 2 with a diagonal A: the gradient is g_u - lambda rho A g_h / ||g_h||, g_h = A w."""

    def quadratic(parameters: list[Tensor]) -> Tensor:
        return sum((a * p * p).sum() / 2 for a, p in zip(vectors(parameters, 2), parameters, strict=True))  # type: ignore[return-value]

    rho, lam = 0.5, 7.0
    (plain, defended), weights, _ = update_without_and_with(build, monkeypatch, quadratic, rho=rho, lam=lam)
    diagonal = vectors(weights, 2)
    harmful = [a * w for a, w in zip(diagonal, weights, strict=True)]
    length = float(global_norm(harmful)) + 1e-7
    for g, got, a, g_h in zip(plain, defended, diagonal, harmful, strict=True):
        assert torch.allclose(got, g - lam * rho * a * g_h / length, rtol=1e-11, atol=1e-13)
        assert (got - g).abs().max() > 1e-3


@pytest.mark.parametrize(("rho", "lam"), [(1.0, 0.0), (0.0, 5.0)])
@pytest.mark.parametrize("settings", [{}, {"gradient_accumulation_steps": 2, "lora_dropout": 0.3}])
def test_without_its_term_it_is_plain_fine_tuning_until_the_end(
    build: Build, rho: float, lam: float, settings: dict[str, Any]
) -> None:
    runs = []
    for defence in (Defence(), panacea(rho=rho, lam=lam)):
        runs.append(build(defence, **settings))
        runs[-1].trainer.run()
    plain, defended = runs
    assert equal(plain.weights(), defended.weights())
    losses = [[line["loss"] for line in read_metrics(run.trainer.metrics.path)] for run in runs]
    assert losses[0] == losses[1]
    defended.trainer.perturb()
    moved = [a - b for a, b in zip(defended.weights(), plain.weights(), strict=True)]
    assert float(global_norm(moved)) == pytest.approx(rho, rel=1e-6)
    assert equal(plain.weights(), defended.weights()) == (rho == 0.0)


def test_the_term_changes_the_weights(build: Build) -> None:
    plain, defended = build(Defence()), build(panacea(lam=1.0, rho=0.5))
    for run in (plain, defended):
        run.trainer.run()
    assert not equal(plain.weights(), defended.weights())


def test_the_perturbation_raises_the_harmful_loss_where_it_was_made(build: Build) -> None:
    watched = scattered(build, panacea(rho=0.05))
    batch = next_harmful(watched)
    watched.trainer.enter_step()
    before = harmful_loss(watched, batch)
    watched.trainer.perturb()
    assert harmful_loss(watched, batch) > before


def test_a_renewed_perturbation_belongs_to_the_final_weights(build: Build) -> None:
    """`final_rows`: the ascent direction of the mean over six rows, at w_T."""
    watched = build(panacea(rho=0.05, harmful_batch=3, final_rows=6))
    trainer = watched.trainer
    trainer.run()
    stale = [tensor.clone() for tensor in trainer.eps]
    trainer.model.eval()
    taken = trainer.harmful.taken
    batches = [trainer.harmful.next(), trainer.harmful.next()]
    trainer.harmful.taken = taken
    parameters = list(trainer.parameters.values())
    parts = [torch.autograd.grad(answer_loss(trainer.model, batch), parameters) for batch in batches]
    wanted = [a + b for a, b in zip(*parts, strict=True)]
    scale = 0.05 / float(global_norm(wanted))
    before = sum(harmful_loss(watched, batch) for batch in batches)
    trainer.perturb()
    assert all(torch.allclose(e, scale * w, rtol=1e-6, atol=1e-12) for e, w in zip(trainer.eps, wanted, strict=True))
    assert not equal(stale, trainer.eps)
    assert sum(harmful_loss(watched, batch) for batch in batches) > before


@pytest.mark.parametrize("cap", ["under h(w)", "between"])
def test_above_the_cap_the_update_is_the_users_alone(build: Build, cap: str) -> None:
    probe = scattered(build, panacea(rho=0.5, lam=3.0))
    probe.trainer.enter_step()
    loss, raised = probe.trainer._losses
    limit = loss / 2 if cap == "under h(w)" else (loss + raised) / 2
    gradients = []
    for defence in (Defence(), panacea(rho=0.5, lam=3.0, loss_cap=limit)):
        watched = scattered(build, defence)
        watched.trainer.training_step(watched.trainer.model, watched.trainer.data_collator(watched.rows.user[:3]), None)
        gradients.append([p.grad.clone() for p in watched.trainer.parameters.values()])
    assert equal(*gradients)
    assert watched.trainer.step_metrics()["bracket_dropped"] == 1.0
    assert float(global_norm(watched.trainer.eps)) == pytest.approx(0.5, rel=1e-6)


def test_a_step_of_micro_batches_has_one_harmful_batch_and_the_gradient_of_the_whole(build: Build) -> None:
    taken = []
    for batch_size, accumulate in ((6, 1), (3, 2)):
        watched = build(
            panacea(rho=0.5, lam=2.0, harmful_batch=2), max_steps=2, batch_size=batch_size,
            gradient_accumulation_steps=accumulate, max_grad_norm=0.0,
        )  # fmt: skip
        watched.trainer.run()
        assert watched.trainer.harmful.taken == 4
        taken.append(watched.weights())
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(*taken, strict=True))


def test_both_harmful_passes_see_the_same_network(build: Build) -> None:
    """With dropout and rho = 0 the two gradients of a step are the same bits."""
    watched = scattered(build, panacea(rho=0.0, lam=1.0), lora_dropout=0.5)
    watched.trainer.model.train()
    watched.trainer.enter_step()
    assert all(torch.count_nonzero(part) == 0 for part in watched.trainer._bracket)
    first, second = watched.trainer._losses
    assert first == second


def test_the_report_tells_norms_by_layer_and_the_ratio(build: Build) -> None:
    watched = build(panacea(rho=0.7, lam=0.1))
    start = watched.weights()
    watched.trainer.run()
    change = float(global_norm([a - b for a, b in zip(watched.weights(), start, strict=True)]))
    watched.trainer.perturb()
    report = watched.trainer.report(read_metrics(watched.trainer.metrics.path))
    assert len(report["eps_norm_by_layer"]) == 3
    assert sum(norm**2 for norm in report["eps_norm_by_layer"]) ** 0.5 == pytest.approx(0.7, rel=1e-6)
    assert report["weight_change"] == pytest.approx(change, rel=1e-9)
    assert report["perturbation_ratio"] == pytest.approx(0.7 / change, rel=1e-6)
    assert report["brackets_dropped"] == 0
    assert report["harmful_loss_perturbed"] > report["harmful_loss"]


def test_a_perturbation_that_is_no_number_is_not_added(build: Build) -> None:
    watched = build(panacea())
    watched.trainer.eps[0].fill_(float("nan"))
    before = watched.weights()
    with pytest.raises(InvalidRequest, match="lower the learning rate"):
        watched.trainer.perturb()
    assert equal(before, watched.weights())
