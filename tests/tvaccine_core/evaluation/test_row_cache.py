from typing import Any

import pytest
import torch
from transformers import DynamicCache, GPT2Config, MistralConfig, MistralForCausalLM

from tvaccine_core.evaluation import row_cache as module
from tvaccine_core.evaluation.generation import _generate_batch
from tvaccine_core.evaluation.row_cache import RowLayer, closed_up, common_start, row_cache, sliding_window
from tvaccine_core.evaluation.sampling import Picker

WINDOW = 12


def states(rows: int, length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, rows, 3, length, 4, generator=generator)
    return keys, values[..., :2]  # some models have narrower values


def test_holds_what_a_growing_cache_holds() -> None:
    ours, growing = RowLayer(5, 20), DynamicCache()
    for step, (rows, length) in enumerate([(5, 4), (5, 1), (3, 1), (2, 2)]):
        if step == 2:
            ours.batch_select_indices(torch.tensor([0, 4, 2]))
            growing.batch_select_indices(torch.tensor([0, 4, 2]))
        if step == 3:
            ours.batch_select_indices(torch.tensor([2, 1]))
            growing.batch_select_indices(torch.tensor([2, 1]))
        new = states(rows, length, step)
        for mine, theirs in zip(ours.update(*new), growing.update(*new, 0), strict=True):
            assert torch.equal(mine, theirs)
        assert ours.get_seq_length() == growing.get_seq_length()
        assert ours.get_mask_sizes(3) == growing.get_mask_sizes(3, 0)


def test_spreads_the_first_row() -> None:
    layer = RowLayer(3, 8)
    keys, _ = states(1, 5, 0)
    layer.update(*states(1, 5, 0))
    layer.spread()
    held, _ = layer.update(*states(3, 1, 1))
    assert all(torch.equal(held[row, :, :5], keys[0]) for row in range(3))


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ([[1, 2, 3, 4], [1, 2, 5, 6]], 2),
        ([[1, 2, 3], [1, 2, 3]], 2),  # one token of each is left to read
        ([[1, 2, 3], [1, 2, 3, 4]], 2),
        ([[1], [1, 2]], 0),
        ([[3, 1], [2, 1]], 0),
    ],
)
def test_common_start(prompts: list[list[int]], expected: int) -> None:
    assert common_start(prompts) == expected


def test_holes_are_filled_from_the_end() -> None:
    assert closed_up([0, 1, 2]) == [0, 1, 2]
    assert closed_up([1, 2, 4]) == [4, 1, 2]
    assert closed_up([5, 6]) == [6, 5]
    for places in ([0, 3, 4, 7], [2], [1, 3, 5, 7]):
        order = closed_up(places)
        assert sorted(order) == places
        assert all(source >= target for target, source in enumerate(order))


def window_model() -> Any:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=WINDOW,
        initializer_range=0.3,
    )
    return MistralForCausalLM(config).double().eval()


def test_sliding_windows_see_what_they_would_alone() -> None:
    model = window_model()
    assert sliding_window(model) == WINDOW
    generator = torch.Generator().manual_seed(1)
    shared = torch.randint(0, 60, (9,), generator=generator).tolist()
    prompts = [shared + torch.randint(0, 60, (n,), generator=generator).tolist() for n in (1, 4, 9)]
    together = _generate_batch(model, prompts, [Picker(None)] * 3, frozenset(), 8)
    for prompt, answer in zip(prompts, together, strict=True):
        assert _generate_batch(model, [prompt], [Picker(None)], frozenset(), 8) == [answer]
        whole = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=8, eos_token_id=None)
        assert whole[0, len(prompt) :].tolist() == answer


def test_models_that_keep_more_make_their_own_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    model = window_model()
    expected = _generate_batch(model, [[1, 2, 3], [1, 4]], [Picker(None)] * 2, frozenset({7, 9, 30}), 12)
    monkeypatch.setattr(module, "_PLAIN", ())
    assert row_cache(model, 2, 9) is None
    assert _generate_batch(model, [[1, 2, 3], [1, 4]], [Picker(None)] * 2, frozenset({7, 9, 30}), 12) == expected


def test_no_window() -> None:
    class Bare:
        config = GPT2Config(n_layer=1)

    assert sliding_window(Bare()) == float("inf")
