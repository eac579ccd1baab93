"""TAR's simulated attack, its weights and its loss, on quadratics, toys and tiny models in float64."""

import dataclasses
import itertools
import json
import math

import pytest
import torch
from torch import Tensor, nn

from tvaccine_core.alignment.loss import shifted_cross_entropy
from tvaccine_core.alignment.tar import Attack, AttackPlan, is_bounded, mean_entropy, simulate_attack
from tvaccine_core.alignment.tar_config import TarConfig
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.training.answer_logits import answer_logits

PLAN = AttackPlan(steps=8, measure_every=4, growth=0.0625)


class Two:
    """The attacker's loss w' A w / 2 and the resistance w' B w / 2, remembering where each was asked."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(4)
        roots = torch.randn(2, 5, 5, generator=generator, dtype=torch.float64)
        self.attack_hessian, self.resistance_hessian = (root @ root.t() for root in roots)
        self.w = nn.Parameter(torch.randn(5, generator=generator, dtype=torch.float64))
        self.seen: list[tuple[str, Tensor]] = []

    def run(self, attacker: torch.optim.Optimizer, plan: AttackPlan, scale: float) -> tuple[Tensor, Attack]:
        buffer = [torch.zeros_like(self.w)]
        return buffer[0], simulate_attack([self.w], attacker, self.attack, self.resist, plan, buffer, scale)

    def attack(self) -> Tensor:
        return self._backward("attack", self.attack_hessian)

    def resist(self) -> Tensor:
        return self._backward("resist", self.resistance_hessian)

    def _backward(self, name: str, hessian: Tensor) -> Tensor:
        assert self.w.grad is None
        self.seen.append((name, self.w.detach().clone()))
        loss = self.w @ hessian @ self.w / 2
        loss.backward()
        return loss.detach()


def test_the_last_weight_is_one_and_neighbours_differ_by_a_constant_factor() -> None:
    plan = AttackPlan(64, 4, 0.0625)
    assert plan.weight(63) == 1.0
    for k in range(1, 64):
        assert plan.weight(k) / plan.weight(k - 1) == pytest.approx(math.exp(0.0625), rel=1e-12)
    assert list(plan.measured()) == list(range(3, 64, 4))
    assert AttackPlan(8, 8, 0.5).measured() == {7: 1.0}
    assert AttackPlan(8, 4, None).measured() == {3: 0.125, 7: 0.125}


def test_the_parameters_keep_every_bit_and_the_buffer_follows_the_trajectory() -> None:
    """Plain gradient descent on a quadratic: w_k = (1 - lr A)^k w, so the buffer has a closed form."""
    two, rate, scale = Two(), 0.02, 4.0
    before = two.w.detach().clone()
    buffer, found = two.run(torch.optim.SGD([two.w], lr=rate), PLAN, scale)
    assert torch.equal(two.w, before)
    assert two.w.grad is None
    shrink = torch.eye(5, dtype=torch.float64) - rate * two.attack_hessian
    reached = {k: torch.linalg.matrix_power(shrink, k + 1) @ before for k in range(8)}
    weights = {3: math.exp(-4 * 0.0625), 7: 1.0}
    expected = scale * sum(c * (two.resistance_hessian @ reached[k]) for k, c in weights.items())
    assert torch.allclose(buffer, expected, rtol=1e-12, atol=1e-13)
    losses = {k: reached[k] @ two.resistance_hessian @ reached[k] / 2 for k in weights}
    assert float(found.resistance) == pytest.approx(sum(float(c * losses[k]) for k, c in weights.items()))
    assert float(found.entropy) == pytest.approx(-float(found.resistance) / sum(weights.values()))
    assert [name for name, _ in two.seen] == (["attack"] * 4 + ["resist"]) * 2


def test_the_attackers_loss_falls() -> None:
    two = Two()
    _, found = two.run(torch.optim.AdamW([two.w], lr=0.05), PLAN, 1.0)
    losses = [float(w @ two.attack_hessian @ w / 2) for name, w in two.seen if name == "attack"]
    assert all(after < before for before, after in itertools.pairwise(losses))
    assert (float(found.first_loss), float(found.last_loss)) == (pytest.approx(losses[0]), pytest.approx(losses[-1]))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_an_attacker_that_stands_still_leaves_the_gradient_at_the_weights(kind: type[torch.optim.Optimizer]) -> None:
    two, scale = Two(), 4.0
    buffer, _ = two.run(kind([two.w], lr=0.0), PLAN, scale)
    expected = scale * sum(PLAN.measured().values()) * (two.resistance_hessian @ two.w.detach())
    assert torch.allclose(buffer, expected, rtol=1e-14, atol=0.0)


def test_attacks_add_up_in_the_buffer() -> None:
    two = Two()
    once, _ = two.run(torch.optim.SGD([two.w], lr=0.02), PLAN, 1.0)
    buffer = [torch.zeros_like(two.w)]
    for _ in range(2):
        attacker = torch.optim.SGD([two.w], lr=0.02)
        simulate_attack([two.w], attacker, two.attack, two.resist, PLAN, buffer, 0.5)
    assert torch.allclose(buffer[0], once, rtol=1e-14)


def test_the_weights_come_back_from_an_attack_that_fails() -> None:
    two = Two()
    before = two.w.detach().clone()

    def fail() -> Tensor:
        raise RuntimeError("out of memory")

    attacker = torch.optim.SGD([two.w], lr=0.02)
    with pytest.raises(RuntimeError, match="out of memory"):
        simulate_attack([two.w], attacker, two.attack, fail, PLAN, [torch.zeros_like(two.w)], 1.0)
    assert torch.equal(two.w, before)


def test_uniform_logits_have_the_highest_entropy_and_no_gradient() -> None:
    logits = torch.full((6, 50), 1.7, dtype=torch.float64, requires_grad=True)
    loss = -mean_entropy(logits)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(-math.log(50), rel=1e-14)
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-16
    other = torch.randn(6, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(mean_entropy(other)) == pytest.approx(
        float(torch.distributions.Categorical(logits=other).entropy().mean()), rel=1e-12
    )


def test_entropy_is_taken_in_float32_for_lower_precisions() -> None:
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(mean_entropy(logits), mean_entropy(logits.float()))


def test_the_bound_is_a_share_of_the_highest_entropy() -> None:
    assert bool(is_bounded(torch.tensor(0.91 * math.log(50)), 50, 0.9))
    assert not bool(is_bounded(torch.tensor(0.89 * math.log(50)), 50, 0.9))


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "opt"])
def test_logits_of_answers_are_those_of_the_whole_forward(setting, batch, family: str) -> None:
    model, inputs = setting(family).model, batch()
    logits, targets = answer_logits(model, inputs)
    full = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    answers = inputs["labels"][:, 1:] != -100
    assert torch.equal(targets, inputs["labels"][:, 1:][answers])
    assert torch.allclose(logits, full[:, :-1][answers], rtol=0.0, atol=1e-12)
    loss = nn.functional.cross_entropy(logits, targets)
    assert torch.allclose(loss, shifted_cross_entropy(full, inputs["labels"]), rtol=1e-12)


def test_models_that_compute_all_logits_give_the_same(setting, batch) -> None:
    inner = setting().model

    class Plain(nn.Module):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None, use_cache: bool) -> object:
            return inner(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

    expected, targets = answer_logits(inner, batch())
    logits, same = answer_logits(Plain(), batch())
    assert torch.equal(targets, same)
    assert torch.allclose(logits, expected, rtol=0.0, atol=1e-12)


def test_padding_changes_nothing(setting, batch) -> None:
    model, inputs = setting().model, batch()
    padded = {
        name: torch.cat([tensor, torch.full((3, 9), fill)], dim=1)
        for (name, tensor), fill in zip(inputs.items(), (2, 0, -100), strict=True)
    }
    assert torch.allclose(
        mean_entropy(answer_logits(model, padded)[0]), mean_entropy(answer_logits(model, inputs)[0]), rtol=1e-12
    )


def test_settings_survive_json_and_are_checked() -> None:
    values = {"method": "tar", "attacker_learning_rates": [0.001, 0.01], "inner_steps": 6.0, "measure_every": 3}
    config = TarConfig.from_dict(values)
    assert config.attacker_learning_rates == (0.001, 0.01)
    assert hash(config) == hash(TarConfig.from_dict(json.loads(json.dumps(config.to_dict()))))
    assert TarConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    wrong = {
        "lambda_tr": -1.0,
        "measure_every": 4,
        "attacker_learning_rates": [],
        "attacks": 0,
        "weights": "linear",
        "attacker": "lion",
        "entropy_bound": 1.5,
        "heldout_share": 0.0,
    }
    for name, value in wrong.items():
        with pytest.raises(InvalidRequest) as error:
            dataclasses.replace(config, **{name: value})
        assert error.value.param == name
    for rates in ([0.0], ["0.1"], [True], 0.1, [1e-3] * 17):
        with pytest.raises(InvalidRequest, match="numbers from 1e-09 to 1"):
            TarConfig.from_dict({"attacker_learning_rates": rates})
