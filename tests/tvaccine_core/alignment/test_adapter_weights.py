"""Copies of adapter weights, exact to the bit."""

import pytest
import torch
from torch import nn

from tvaccine_core.alignment.adapter_weights import (
    add_gradients,
    global_norm,
    preserved,
    restore,
    snapshot,
    take_gradients,
    trained,
)


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 5), (7,))]


def test_a_snapshot_is_neither_a_view_nor_part_of_a_graph() -> None:
    moved = parameters()
    kept = snapshot(moved)
    for parameter in moved:
        parameter.data.add_(1.0)
    assert not any(copy.requires_grad for copy in kept)
    assert not any(torch.equal(copy, parameter) for copy, parameter in zip(kept, moved, strict=True))
    restore(moved, kept)
    assert all(torch.equal(copy, parameter) for copy, parameter in zip(kept, moved, strict=True))


def test_restoring_the_wrong_number_of_tensors_is_an_error() -> None:
    with pytest.raises(ValueError, match="longer"):
        restore(parameters()[:1], snapshot(parameters()))


def test_preserved_weights_keep_bits_that_adding_a_step_back_would_lose() -> None:
    moved = parameters()
    before = [parameter.detach().clone() for parameter in moved]
    added_back = [(tensor - 0.1234567 * tensor) + 0.1234567 * tensor for tensor in before]
    assert any(not torch.equal(got, tensor) for got, tensor in zip(added_back, before, strict=True))
    with preserved(moved):
        for parameter in moved:
            parameter.data.sub_(0.1234567 * parameter.data)
    assert all(torch.equal(parameter, tensor) for parameter, tensor in zip(moved, before, strict=True))


def test_weights_come_back_when_something_fails() -> None:
    moved = parameters()
    before = [parameter.detach().clone() for parameter in moved]

    def fail() -> None:
        with preserved(moved):
            moved[0].data.zero_()
            raise RuntimeError("mid-way")

    with pytest.raises(RuntimeError, match="mid-way"):
        fail()
    assert torch.equal(moved[0], before[0])


def test_the_norm_is_one_over_all_entries_and_at_least_float32() -> None:
    tensors = [torch.full((4,), 3.0), torch.full((1,), 8.0)]
    assert float(global_norm(tensors)) == pytest.approx(10.0)
    assert global_norm(tensor.bfloat16() for tensor in tensors).dtype == torch.float32
    assert global_norm([tensor.double() for tensor in tensors]).dtype == torch.float64


def test_taken_gradients_leave_none_behind_and_missing_ones_are_zero() -> None:
    used, unused = parameters()
    (used * 2.0).sum().backward()
    first, second = take_gradients([used, unused])
    assert torch.equal(first, torch.full_like(used, 2.0))
    assert torch.equal(second, torch.zeros_like(unused))
    assert used.grad is None


def test_added_gradients_add_up_and_do_not_alias_the_buffer() -> None:
    parameter = parameters()[0]
    buffer = torch.ones_like(parameter)
    add_gradients([parameter], [buffer])
    add_gradients([parameter], [buffer])
    assert parameter.grad is not None
    assert torch.equal(parameter.grad, torch.full_like(parameter, 2.0))
    assert torch.equal(buffer, torch.ones_like(parameter))


def test_the_trained_parameters_of_one_adapter(setting) -> None:
    model = setting().model
    found = trained(model, "default")
    assert list(found) == sorted(found)
    assert set(found) == {name for name, _ in model.named_parameters() if ".lora_" in name}
    assert trained(model, "other") == {}
    next(iter(found.values())).requires_grad_(False)
    assert len(trained(model, "default")) == len(found) - 1
