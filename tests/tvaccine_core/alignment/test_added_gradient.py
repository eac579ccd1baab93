"""Whole runs of Booster and TAR on tiny models: against plain alignment, and what an outer step leaves alone."""

import dataclasses
from typing import Any

import pytest
import torch
from peft import PeftModel

from tests.tvaccine_core.alignment.added_gradient_runs import (
    BOOSTER,
    METHODS,
    TAR,
    Build,
    Watched,
    lines,
    same,
    supervised_config,
    trained,
    without_weight,
)
from tvaccine_core.alignment.booster_trainer import BoosterTrainer
from tvaccine_core.alignment.tar_trainer import TarTrainer


@METHODS
def test_weight_zero_is_plain_alignment_bit_for_bit_and_another_is_not(make_trainer: Build, config: Any) -> None:
    """With dropout and accumulation: the method's own draws leave the run's random numbers alone."""
    expected = trained(make_trainer(supervised_config("sft", config), "plain"))
    zero = make_trainer(without_weight(config), "zero")
    assert same(trained(zero), expected)
    assert all(line["added_gradient_norm"] == 0.0 for line in lines(zero))
    full = make_trainer(config, "full")
    found = trained(full)
    assert not any(torch.equal(found[name], expected[name]) for name in found)
    assert all(line["added_gradient_norm"] > 0.0 for line in lines(full))


def test_perturb_aware_booster_of_weight_zero_is_vaccine_bit_for_bit(make_trainer: Build) -> None:
    config = dataclasses.replace(BOOSTER, lamb=0.0, perturb_aware=True, rho=0.4)
    expected = trained(make_trainer(supervised_config("vaccine", config, rho=0.4), "vaccine"))
    booster = make_trainer(config, "booster")
    assert same(trained(booster), expected)
    for line in lines(booster):
        assert line["eps_norm"] == pytest.approx(0.4, rel=1e-4)
        assert line["loss_perturbed"] > line["loss"]
    assert not same(trained(make_trainer(dataclasses.replace(config, lamb=5.0), "full")), expected)


@METHODS
def test_only_the_optimizer_changes_the_weights(make_trainer: Build, config: Any) -> None:
    """In every outer step: weights and the optimizer's state are the same bits after the method's own work."""
    watched = Watched(BoosterTrainer if config is BOOSTER else TarTrainer)
    trained(make_trainer(config, kind=watched.kind))
    assert len(watched.added) == config.steps


def test_a_hit_bound_leaves_plain_alignment(make_trainer: Build) -> None:
    bounded = make_trainer(dataclasses.replace(TAR, entropy_bound=0.0), "bounded")
    assert same(trained(bounded), trained(make_trainer(supervised_config("sft", TAR), "plain")))
    assert all(line["bound_hit"] == 1.0 and line["added_gradient_norm"] == 0.0 for line in lines(bounded))


def test_attackers_draw_their_learning_rates_anew_and_reproducibly(make_trainer: Build) -> None:
    config = dataclasses.replace(
        TAR, steps=6, batch_size=1, inner_steps=1, attacks=1, attacker_learning_rates=(1e-4, 1e-3), lora_dropout=0.0
    )

    def rates(name: str, seed: int) -> list[float]:
        trainer = make_trainer(dataclasses.replace(config, seed=seed), name)
        trainer.run()
        return [line["attacker_learning_rate"] for line in lines(trainer)]

    first = rates("first", 3)
    assert set(first) == {1e-4, 1e-3}
    assert rates("again", 3) == first
    assert rates("other", 4) != first


def test_simulated_attackers_learn_and_every_stream_is_read_as_told(make_trainer: Build) -> None:
    config = dataclasses.replace(
        TAR, steps=2, inner_steps=16, measure_every=16, attacker_learning_rates=(2e-2,), lora_dropout=0.0
    )
    trainer = make_trainer(config)
    trained(trainer)
    for line in lines(trainer):
        assert line["harmful_loss_after"] < line["harmful_loss"] - 0.5
    # 2 attacks in each of 2 steps: 16 batches of 4 rows to train on, 1 of 4 rows to measure.
    assert trainer.report() == {"rows_read": {"harmful": 2 * 2 * 16 * 4, "heldout": 2 * 2 * 4}}


@METHODS
def test_the_added_gradient_is_clipped_with_the_other_and_counts_once(make_trainer: Build, config: Any) -> None:
    """The Trainer's norm before clipping is that of g_a + v, however many micro-batches there were."""
    watched = Watched(BoosterTrainer if config is BOOSTER else TarTrainer)
    trainer = make_trainer(dataclasses.replace(config, steps=1, max_grad_norm=1e-3), kind=watched.kind)
    trainer.run()
    (line,) = lines(trainer)
    expected = torch.cat([gradient.reshape(-1) for gradient in watched.gradients.values()]).norm()
    assert line["grad_norm"] == pytest.approx(float(expected), rel=1e-4)
    added = torch.cat([gradient.reshape(-1) for gradient in watched.added[0]]).norm()
    assert line["added_gradient_norm"] == pytest.approx(float(added), rel=1e-5)
    assert len(watched.batches) == 2


@METHODS
@pytest.mark.parametrize("family", ["gemma2", "opt"])
def test_other_families_and_low_precision(make_trainer: Build, config: Any, family: str) -> None:
    trainer = make_trainer(dataclasses.replace(config, steps=2), family=family, dtype=torch.bfloat16)
    weights = trained(trainer)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
    assert all(line["added_gradient_norm"] > 0.0 for line in lines(trainer))


@METHODS
def test_layers_are_never_dropped_at_random(make_trainer: Build, config: Any) -> None:
    expected = trained(make_trainer(dataclasses.replace(config, steps=2), "kept", family="opt"))

    class Dropping(BoosterTrainer if config is BOOSTER else TarTrainer):  # type: ignore[misc]
        def __init__(self, *, model: PeftModel, **kwargs: Any) -> None:
            dropping = [module for module in model.modules() if hasattr(module, "layerdrop")]
            assert dropping
            for module in dropping:
                module.layerdrop = 0.9
            super().__init__(model=model, **kwargs)

    assert same(
        trained(make_trainer(dataclasses.replace(config, steps=2), "out", family="opt", kind=Dropping)), expected
    )
