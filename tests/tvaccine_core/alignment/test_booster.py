"""Booster's bracket grad h(w) - grad h(w'), on quadratics and on tiny models in float64."""

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn

from tvaccine_core.alignment.adapter_weights import global_norm
from tvaccine_core.alignment.booster import attenuation, normalised_step
from tvaccine_core.alignment.booster_config import BoosterConfig
from tvaccine_core.alignment.loss import shifted_cross_entropy
from tvaccine_core.errors import InvalidRequest


class Quadratic:
    """h(w) = w' A w / 2 for w spread over two tensors; remembers where it was asked."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        root = torch.randn(9, 9, generator=generator, dtype=torch.float64)
        self.hessian = root @ root.t()
        self.parameters = [
            nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in ((2, 3), (3,))
        ]
        self.seen: list[Tensor] = []

    def vector(self) -> Tensor:
        return torch.cat([parameter.reshape(-1) for parameter in self.parameters])

    def backward(self) -> Tensor:
        self.seen.append(self.vector().detach())
        loss = self.vector() @ self.hessian @ self.vector() / 2
        loss.backward()
        return loss.detach()


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 5.0])
def test_on_a_quadratic_it_is_alpha_times_the_hessian_along_the_gradient(alpha: float) -> None:
    h = Quadratic()
    start = h.vector().detach()
    gradient = h.hessian @ start
    found = attenuation(h.parameters, h.backward, alpha)
    expected = alpha * h.hessian @ gradient / (gradient.norm() + 1e-7)
    assert torch.allclose(flat(found.gradient), expected, rtol=1e-11, atol=1e-12)
    assert float(found.norm) == pytest.approx(float(gradient.norm()), rel=1e-14)
    moved = h.seen[1]
    assert float(found.loss) == pytest.approx(float(start @ h.hessian @ start / 2))
    assert float(found.loss_after) == pytest.approx(float(moved @ h.hessian @ moved / 2))


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 5.0])
def test_the_harmful_step_has_length_alpha_over_all_tensors_together(alpha: float) -> None:
    h = Quadratic()
    attenuation(h.parameters, h.backward, alpha)
    before, after = h.seen
    assert float((before - after).norm()) == pytest.approx(alpha, rel=1e-6)
    assert float(torch.cosine_similarity(before - after, h.hessian @ before, dim=0)) == pytest.approx(1.0)


def test_without_a_step_there_is_no_difference_and_it_shrinks_with_alpha() -> None:
    lengths = [
        float(global_norm(attenuation(h.parameters, h.backward, alpha).gradient))
        for h, alpha in ((Quadratic(), 1e-2), (Quadratic(), 1e-4), (Quadratic(), 0.0))
    ]
    assert lengths[1] == pytest.approx(lengths[0] / 100, rel=1e-6)
    assert lengths[2] == 0.0


def test_the_weights_keep_every_bit_and_no_gradient_is_left() -> None:
    h = Quadratic()
    before = h.vector().detach().clone()
    attenuation(h.parameters, h.backward, 0.3)
    assert torch.equal(h.vector(), before)
    assert all(parameter.grad is None for parameter in h.parameters)


def test_a_gradient_of_zero_moves_nothing() -> None:
    weights = [nn.Parameter(torch.ones(3))]
    normalised_step(weights, [torch.zeros(3)], 0.1, torch.tensor(0.0))
    assert torch.equal(weights[0], torch.ones(3))


def test_on_a_model_it_equals_two_plain_gradients_of_two_models(setting, batch) -> None:
    here, harmful, alpha = setting(), batch(seed=7), 0.05
    weights = [p for p in here.model.parameters() if p.requires_grad]

    def loss(model: nn.Module) -> Tensor:
        return shifted_cross_entropy(model(harmful["input_ids"], harmful["attention_mask"]).logits, harmful["labels"])

    def backward() -> Tensor:
        value = loss(here.model)
        value.backward()
        return value.detach()

    found = attenuation(weights, backward, alpha)
    gradients = torch.autograd.grad(loss(here.model), weights)
    moved = copy.deepcopy(here.model)
    length = torch.sqrt(sum((gradient**2).sum() for gradient in gradients))
    trainable = [p for p in moved.parameters() if p.requires_grad]
    for parameter, gradient in zip(trainable, gradients, strict=True):
        parameter.data -= alpha * gradient / (length + 1e-7)
    after = torch.autograd.grad(loss(moved), trainable)
    for got, first, second in zip(found.gradient, gradients, after, strict=True):
        assert torch.allclose(got, first - second, rtol=0.0, atol=1e-13)
    assert found.loss_after < found.loss


def test_settings_survive_json_and_are_checked() -> None:
    config = BoosterConfig.from_dict({"method": "booster", "lamb": 100, "alpha": 0.01, "perturb_aware": True})
    assert (config.lamb, config.alpha, config.needs_harmful_rows) == (100.0, 0.01, True)
    assert BoosterConfig.from_dict(config.to_dict()) == config
    wrong = {"lamb": -1.0, "alpha": float("nan"), "harmful_batch_size": 0, "perturb_aware": 1, "scheme": "published"}
    for name, value in wrong.items():
        with pytest.raises(InvalidRequest) as error:
            dataclasses.replace(config, **{name: value})
        assert error.value.param == name
