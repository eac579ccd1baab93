"""The mathematics of RepNoise, on plain tensors."""

import pytest
import torch

from tvaccine_core.alignment.repnoise import (
    bandwidth,
    defence_loss,
    flattened,
    harmful_term,
    noise_term,
    squared_distances,
    squared_mmd,
    unsilenced,
)


def sample(seed, rows=5, width=7, shift=0.0):
    return torch.randn(rows, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + shift


def test_a_sample_has_no_distance_from_itself_and_the_same_one_in_any_order():
    first, second = sample(0), sample(1, shift=1.0)
    assert squared_mmd(first, first).item() == pytest.approx(0.0, abs=1e-12)
    assert squared_mmd(first[:1], first[:1]).item() == 0.0
    order = torch.tensor([3, 1, 4, 0, 2])
    assert squared_mmd(first[order], second).item() == pytest.approx(squared_mmd(first, second).item(), abs=1e-12)
    assert squared_mmd(first, second[order]).item() == pytest.approx(squared_mmd(second, first).item(), abs=1e-12)


def test_the_distance_is_never_negative_and_grows_with_the_shift():
    found = [squared_mmd(sample(seed), sample(seed + 50)).item() for seed in range(20)]
    assert min(found) >= 0.0
    apart = [squared_mmd(sample(0), sample(1, shift=shift)).item() for shift in (0.0, 1.0, 2.0)]
    assert apart == sorted(apart)


def test_the_formula_by_hand_for_two_rows():
    first, second = torch.tensor([[0.0]], dtype=torch.float64), torch.tensor([[3.0]], dtype=torch.float64)
    distances = squared_distances(torch.cat([first, second]))
    assert distances.tolist() == [[0.0, 9.0], [9.0, 0.0]]
    assert bandwidth(distances).item() == 9.0  # (9 + 9) / (4 - 2)
    kernel = sum(torch.exp(torch.tensor(-9.0 / (9.0 / 4 * 2**k), dtype=torch.float64)) for k in range(5))
    assert squared_mmd(first, second).item() == pytest.approx(float(5 + 5 - 2 * kernel), abs=1e-12)


def test_no_gradient_flows_through_the_bandwidth():
    first, second = sample(0).requires_grad_(), sample(1, shift=1.0)
    distances = squared_distances(torch.cat([first, second]))
    fixed = bandwidth(distances)
    assert not fixed.requires_grad
    constant = fixed.item() / 4
    kernel = sum(torch.exp(-distances / (constant * 2**k)) for k in range(5))
    by_hand = kernel[:5, :5].mean() + kernel[5:, 5:].mean() - 2 * kernel[:5, 5:].mean()
    (expected,) = torch.autograd.grad(by_hand, first)
    (found,) = torch.autograd.grad(squared_mmd(first, second), first)
    assert torch.allclose(found, expected, atol=1e-14)
    assert found.abs().max() > 0


def test_flattening_keeps_places_and_drops_empty_columns():
    mask = torch.tensor([[False, True, False, True], [False, False, False, True]])
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert flattened(values, mask).tolist() == [[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 5.0, 6.0]]


def test_noise_is_redrawn_and_reproducible_and_padding_does_not_matter():
    mask = torch.tensor([[False, True, True], [False, True, False], [False, True, True]])
    padded = torch.nn.functional.pad(mask, (0, 4))
    values = [sample(0), sample(1)]
    generator = torch.Generator().manual_seed(3)
    first, second = noise_term(values, mask, generator), noise_term(values, mask, generator)
    again = noise_term(values, padded, generator.manual_seed(3))
    assert first.item() != second.item()
    assert first.item() == pytest.approx(again.item(), abs=1e-14)


@pytest.mark.parametrize("alpha", [0.02, 1.0])
def test_the_ascent_term_has_the_slope_of_a_logarithm(alpha):
    harmful = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    noise = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    defence_loss(noise, harmful, alpha, 0.001).backward()
    assert harmful.grad.item() == pytest.approx(-alpha / 4.0, rel=1e-14)
    assert noise.grad.item() == pytest.approx(0.001, rel=1e-14)


def test_the_harmful_term_is_one_plus_the_mean_of_the_depths():
    assert harmful_term([torch.tensor(1.0), torch.tensor(2.0), torch.tensor(6.0)]).item() == 4.0


def test_blanked_logits_cost_the_first_token_of_every_run_of_labels():
    labels = torch.tensor([[-100, -100, 5, 6, -100, 7, 8]])
    assert unsilenced(labels).tolist() == [[-100, -100, -100, 6, -100, -100, 8]]
    assert labels[0, 2] == 5
