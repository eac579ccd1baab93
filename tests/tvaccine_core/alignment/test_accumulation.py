"""Gradients of several micro-batches together, in float64.

Without a perturbation they are those of one big batch. With one, each micro-batch is perturbed by itself: what is
averaged, by supervised tokens, is the gradients of the micro-batches' own perturbed losses.
"""

import pytest
import torch

from tvaccine_core.alignment.two_pass import TwoPassScheme

FAMILIES = ["llama", "qwen2", "gemma2", "opt"]
PARTS = ((0, 1), (1, 4), (4, 6))  # rows of the micro-batches: of different sizes and numbers of answers' tokens


def supervised(inputs):
    return int((inputs["labels"][:, 1:] != -100).sum())


def micro_batches(whole):
    parts = [{name: tensor[start:stop] for name, tensor in whole.items()} for start, stop in PARTS]
    return [(part, supervised(part) / supervised(whole)) for part in parts]


def accumulated(here, scheme, whole, window):
    """Gradients as a trainer gathers them, and the reports of the micro-batches."""
    here.model.zero_grad()
    scheme.open_window(window)
    reports = [
        scheme.step(part, lambda loss, share=share: (loss * share).backward()) for part, share in micro_batches(whole)
    ]
    return here.gradients(), reports


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_perturbation_they_are_one_big_batch(setting, batch, efficient, family):
    here = setting(family)
    whole = batch(rows=6, length=40)
    window = here.window((), method="sft")
    _, expected = here.step(TwoPassScheme(here.model, here.layers, 0.0), whole, window)
    scheme = efficient(here, rho=0.0)
    _, at_once = here.step(scheme, whole, window)
    gradients, reports = accumulated(here, scheme, whole, window)
    assert largest_difference(at_once, expected) < 1e-12
    assert largest_difference(gradients, expected) < 1e-12
    shares = [share for _, share in micro_batches(whole)]
    assert len({round(share, 6) for share in shares}) == 3  # a mean of means would be another number
    total = sum(share * report.values()["loss"] for share, report in zip(shares, reports, strict=True))
    assert total == pytest.approx(float(here.step(scheme, whole, window)[0].loss), abs=1e-13)


@pytest.mark.parametrize("scope", ["attention", "layer"])
def test_each_micro_batch_is_perturbed_by_itself(setting, batch, efficient, scope):
    here = setting()
    whole = batch(rows=6, length=40)
    window = here.window((1, 3), scope)
    plain = TwoPassScheme(here.model, here.layers, 0.5)
    expected = {}
    for part, share in micro_batches(whole):
        here.model.zero_grad()
        plain.open_window(window)
        # Scaled before the backward: norms compute in float32 whatever the model's precision.
        plain.step(part, lambda loss, share=share: (loss * share).backward())
        for name, gradient in here.gradients().items():
            expected[name] = expected.get(name, 0.0) + gradient
    gradients, reports = accumulated(here, efficient(here), whole, window)
    assert largest_difference(gradients, expected) < 1e-12
    for report in reports:  # each has the whole length to itself
        assert report.values()["eps_norm"] == pytest.approx(0.5, rel=1e-6)
    _, at_once = here.step(plain, whole, window)
    assert largest_difference(gradients, at_once) > 1e-6  # one perturbation of the big batch is another method


def test_probing_between_micro_batches_loses_nothing(setting, batch, efficient):
    here = setting()
    scheme = efficient(here)
    window = here.window((1,))
    (first, share), (second, other), _ = micro_batches(batch(rows=6, length=40))
    scheme.open_window(window)
    results = []
    for probing in (False, True):
        here.model.zero_grad()
        scheme.step(first, lambda loss: (loss * share).backward())
        if probing:
            scheme.probe(batch(seed=9), 2)
        scheme.step(second, lambda loss: (loss * other).backward())
        results.append(here.gradients())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
