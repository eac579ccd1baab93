"""The answer loss against transformers' own, for each family and for models that compute all logits."""

from typing import Any

import pytest
import torch
from tiny_models import FAMILIES, tiny_model
from torch.nn import functional

from tvaccine_core.training.loss import answer_loss


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 300, (3, 11), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([11, 7, 4])
    mask = (torch.arange(11)[None] < lengths[:, None]).long()
    labels = torch.where(mask.bool(), ids, -100)
    labels[:, :3] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradient_equal_the_models_own(family: str) -> None:
    model = tiny_model(family)
    expected = model(**batch()).loss
    loss = answer_loss(model, batch())
    assert torch.allclose(loss, expected, atol=1e-5)
    weights = list(model.parameters())
    ours = torch.autograd.grad(loss, weights, allow_unused=True)
    theirs = torch.autograd.grad(expected, weights, allow_unused=True)
    for got, wanted in zip(ours, theirs, strict=True):
        if wanted is not None:
            assert got is not None
            assert torch.allclose(got, wanted, atol=1e-5)


def test_models_without_logits_to_keep_give_the_same_loss() -> None:
    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny_model()

        def forward(self, input_ids: Any, attention_mask: Any = None, use_cache: bool = True) -> Any:
            return self.inner(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

    plain = Plain()
    assert torch.allclose(answer_loss(plain, batch()), answer_loss(plain.inner, batch()), atol=1e-6)


def test_micro_batches_divided_by_the_count_of_all_add_up_to_the_whole() -> None:
    model = tiny_model()
    whole = batch()
    count = int((whole["labels"][:, 1:] != -100).sum())
    parts = [answer_loss(model, {k: v[i : i + 1] for k, v in whole.items()}, count=count) for i in range(3)]
    assert torch.allclose(sum(parts, torch.tensor(0.0)), answer_loss(model, whole), atol=1e-6)


def test_the_first_token_of_a_row_is_never_a_target() -> None:
    model = tiny_model()
    inputs = batch()
    inputs["labels"][:, 0] = inputs["input_ids"][:, 0]
    logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    expected = functional.cross_entropy(logits[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten())
    assert torch.allclose(answer_loss(model, inputs), expected, atol=1e-5)
