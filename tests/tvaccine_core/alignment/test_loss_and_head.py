import pytest
import torch
from torch.nn import functional

from tvaccine_core.alignment.batch import supervised_batch
from tvaccine_core.alignment.head import Head
from tvaccine_core.alignment.loss import shifted_cross_entropy, supervised_cross_entropy

ROWS, VOCABULARY = 150, 40


@pytest.fixture
def logits():
    return torch.randn(ROWS, VOCABULARY, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def targets():
    return torch.randint(0, VOCABULARY, (ROWS,), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_supervised_cross_entropy_and_its_gradient(logits, targets, factor):
    plain = logits.clone().requires_grad_()
    (factor * functional.cross_entropy(plain, targets)).backward()
    ours = logits.clone().requires_grad_()
    loss = supervised_cross_entropy(ours * 1.0, targets)  # the loss overwrites what it is given
    (factor * loss).backward()
    assert loss.item() == pytest.approx(functional.cross_entropy(logits, targets).item(), abs=1e-13)
    assert torch.allclose(ours.grad, plain.grad, rtol=0, atol=1e-15)


def test_count_divides_the_sum(logits, targets):
    loss = supervised_cross_entropy(logits.clone(), targets, count=1)
    assert loss.item() == pytest.approx(functional.cross_entropy(logits, targets, reduction="sum").item())


def test_logits_are_left_alone_without_a_gradient(logits, targets):
    given = logits.clone()
    supervised_cross_entropy(given, targets)
    assert torch.equal(given, logits)


def test_reading_overwritten_logits_in_a_backward_is_an_error(logits, targets):
    given = logits.clone().requires_grad_()
    produced = given.exp()  # its backward needs its result
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        supervised_cross_entropy(produced, targets).backward()


def test_low_precision_is_computed_in_float32(logits, targets):
    rounded = logits.to(torch.bfloat16)
    exact = functional.cross_entropy(rounded.float(), targets)
    assert supervised_cross_entropy(rounded, targets).item() == pytest.approx(exact.item(), rel=1e-6)


@pytest.mark.parametrize("family", ["llama", "gemma2", "opt"])  # gemma2 caps its logits
def test_supervised_logits_give_the_loss_of_full_logits(setting, batch, family):
    here = setting(family)
    inputs = batch()
    full = here.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    expected = shifted_cross_entropy(full, inputs["labels"])
    reduced = supervised_batch(inputs)
    head = Head(here.model)
    with head.skipping():
        output = here.model(**reduced.model_inputs()).logits
        positions = output.reshape(-1, output.shape[-1])[reduced.positions]
        loss = head.loss(positions.unsqueeze(0), reduced.targets, reduced.targets.numel())
    assert output.shape[-1] == (full.shape[-1] if family == "gemma2" else here.model.config.hidden_size)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-13)
    outside = here.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    assert torch.equal(outside, full)
    head.remove()


def test_head_gradient_over_several_blocks_of_rows(setting):
    here = setting()
    head = Head(here.model)
    lm_head = here.model.get_output_embeddings()
    hidden = torch.randn(1, 300, 32, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, lm_head.weight.shape[0], (300,))
    with head.skipping():
        loss = head.loss(lm_head(hidden), targets, 300)
    (gradient,) = torch.autograd.grad(2.0 * loss, hidden)
    plain = functional.cross_entropy(functional.linear(hidden[0], lm_head.weight), targets)
    (expected,) = torch.autograd.grad(2.0 * plain, hidden)
    assert torch.allclose(gradient, expected, rtol=0, atol=1e-14)
    head.remove()
