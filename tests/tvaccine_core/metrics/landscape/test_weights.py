from collections.abc import Callable
from typing import Any

import pytest
import torch

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.metrics.landscape.directions import RandomDirection, TowardWeights
from tvaccine_core.metrics.landscape.weights import PerturbableWeights

FAMILIES = ["llama", "qwen2", "gemma2", "opt"]
DIRECTION = RandomDirection(123)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Also tells -0.0 from 0.0."""
    return a.dtype == b.dtype and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


@pytest.fixture
def tiny() -> Callable[..., Any]:
    from tiny_models import tiny_model

    return lambda family="llama", dtype=torch.float64, **kwargs: tiny_model(family, **kwargs).to(dtype).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_step_is_as_long_as_its_tensor_and_norms_stay(family: str, tiny: Any, state: Any) -> None:
    model = tiny(family)
    before = state(model)
    weights = PerturbableWeights(model)
    with weights.moved([(DIRECTION, 1.0)]):
        after = state(model)
    names = dict(model.named_parameters())
    assert set(weights.names) == set(names)
    moved = 0
    for name in names:
        change = torch.linalg.vector_norm(after[name] - before[name])
        if "norm" in name:
            assert change == 0
        else:
            length = torch.linalg.vector_norm(before[name])
            assert float(change) == pytest.approx(float(length), rel=1e-12)
            moved += length > 0
    assert moved > 10


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_afterwards_every_bit_is_back(family: str, dtype: Any, tiny: Any, state: Any, logits: Any) -> None:
    model = tiny(family, dtype)
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "proj" in n)[0, :2] = torch.tensor([-0.0, 1e-30])
    before, answered = state(model), logits(model)
    weights = PerturbableWeights(model)
    for alpha in (0.5, -0.5, 0.05, 3.0):
        with weights.moved([(DIRECTION, alpha), (RandomDirection(7), -alpha)]):
            assert not torch.equal(logits(model), answered)
    after = state(model)
    assert all(same_bits(before[name], after[name]) for name in before)
    assert same_bits(logits(model), answered)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_alpha_0_is_the_model_itself_bit_for_bit(dtype: Any, tiny: Any, adapted: Any, state: Any, logits: Any) -> None:
    for model in (tiny(dtype=dtype), adapted(dtype=dtype)):
        with torch.no_grad():  # adding a zero step would turn it into 0.0
            next(p for n, p in model.named_parameters() if "q_proj" in n)[0, 0] = -0.0
        before, answered = state(model), logits(model)
        with PerturbableWeights(model).moved([(DIRECTION, 0.0), (RandomDirection(4), 0.0)]):
            assert same_bits(logits(model), answered)
            assert all(same_bits(before[name], tensor) for name, tensor in state(model).items())


def test_a_failure_inside_puts_the_weights_back_too(tiny: Any, state: Any) -> None:
    model = tiny()
    before, weights = state(model), PerturbableWeights(model)
    with pytest.raises(RuntimeError, match="out of memory"), weights.moved([(DIRECTION, 0.3)]):
        raise RuntimeError("out of memory")
    with pytest.raises(InvalidRequest), weights.moved([(DIRECTION, 0.3), (TowardWeights({}, "nothing"), 1.0)]):
        pass
    assert all(same_bits(before[name], tensor) for name, tensor in state(model).items())


def test_a_point_does_not_depend_on_the_points_before_it(tiny: Any, state: Any) -> None:
    model = tiny(dtype=torch.float32)
    weights = PerturbableWeights(model)
    with weights.moved([(DIRECTION, 0.35)]):
        expected = state(model)
    for step in range(20):  # twenty steps would add their roundings up
        with weights.moved([(DIRECTION, -0.5 + step * 0.05)]):
            pass
    with weights.moved([(DIRECTION, 0.35)]):
        assert all(same_bits(expected[name], tensor) for name, tensor in state(model).items())


def test_buffers_are_no_weights(tiny: Any) -> None:
    model = tiny()
    buffers = {name: tensor.clone() for name, tensor in model.named_buffers()}
    assert buffers
    with PerturbableWeights(model).moved([(DIRECTION, 1.0)]):
        assert all(torch.equal(tensor, buffers[name]) for name, tensor in model.named_buffers())


def test_tied_weights_are_one_tensor_with_one_step(tiny: Any) -> None:
    model = tiny("llama")
    assert model.config.tie_word_embeddings
    weights = PerturbableWeights(model)
    assert "lm_head.weight" not in weights.names
    before = model.model.embed_tokens.weight.detach().clone()
    with weights.moved([(DIRECTION, 0.5)]):
        assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
        change = torch.linalg.vector_norm(model.lm_head.weight.detach() - before)
        assert float(change) == pytest.approx(0.5 * float(torch.linalg.vector_norm(before)), rel=1e-12)


def test_norm_layers_are_known_by_their_class_too() -> None:
    model = torch.nn.ModuleDict({"ln_1": torch.nn.LayerNorm(4), "proj": torch.nn.Linear(4, 4)})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with PerturbableWeights(model).moved([(DIRECTION, 1.0)]):
        assert torch.equal(model["ln_1"].weight, before["ln_1.weight"])
        assert not torch.equal(model["proj"].weight, before["proj.weight"])


@pytest.mark.parametrize("family", FAMILIES)
def test_with_adapters_it_is_the_merged_model_that_moves(family: str, adapted: Any, logits: Any) -> None:
    model = adapted(family)
    merged = adapted(family).merge_and_unload()
    moves = [(DIRECTION, 0.3), (RandomDirection(9), -0.2)]
    assert torch.allclose(logits(model), logits(merged), atol=1e-10)
    with PerturbableWeights(model).moved(moves), PerturbableWeights(merged).moved(moves):
        ours, expected = logits(model), logits(merged)
    assert torch.allclose(ours, expected, atol=1e-9)
    assert not torch.allclose(ours, logits(model), atol=1e-2)


def test_the_merged_weights_are_those_of_all_active_adapters(adapted: Any) -> None:
    model = adapted()
    values = PerturbableWeights(model).values()
    merged = dict(adapted().merge_and_unload().named_parameters())
    assert values.keys() == merged.keys()
    assert all(torch.allclose(values[name], merged[name], atol=1e-12) for name in values)
    with model.disable_adapter():
        bare = PerturbableWeights(model).values()
    base = {n.replace(".base_layer.", "."): p for n, p in model.get_base_model().named_parameters() if "lora_" not in n}
    assert all(torch.equal(bare[name], base[name]) for name in bare)


def test_already_merged_adapters_are_not_counted_twice(adapted: Any) -> None:
    model = adapted()
    expected = PerturbableWeights(model).values()
    model.merge_adapter()
    found = PerturbableWeights(model).values()
    assert all(torch.allclose(found[name], expected[name], atol=1e-12) for name in found)


def test_adapter_weights_alone(adapted: Any, state: Any) -> None:
    model = adapted()
    before = state(model)
    with PerturbableWeights(model, "adapter").moved([(DIRECTION, 1.0)]):
        after = state(model)
    for name, tensor in before.items():
        change = float(torch.linalg.vector_norm(after[name] - tensor))
        if "lora_" in name:
            assert change == pytest.approx(float(torch.linalg.vector_norm(tensor)), rel=1e-12)
        else:
            assert change == 0


def test_what_cannot_be_moved_is_refused(tiny: Any) -> None:
    with pytest.raises(InvalidRequest) as error:
        PerturbableWeights(tiny(), "adapter")
    assert error.value.param == "weights"
    quantised = torch.nn.Linear(2, 2)
    quantised.weight = torch.nn.Parameter(torch.zeros(4, 1, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(InvalidRequest) as error:
        PerturbableWeights(torch.nn.ModuleDict({"proj": quantised}))
    assert error.value.param == "model"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_way_to_another_model_ends_at_it(dtype: Any, tiny: Any, state: Any) -> None:
    model, other = tiny(dtype=dtype, seed=0), tiny(dtype=dtype, seed=1)
    way = TowardWeights(PerturbableWeights(other).values(), "other")
    weights, here, there = PerturbableWeights(model), state(model), state(other)
    with weights.moved([(way, 1.0)]):
        for name, tensor in state(model).items():
            if dtype == torch.float32:
                assert torch.equal(tensor, there[name])
            else:  # worked out in float32
                assert torch.allclose(tensor, there[name], rtol=0, atol=2**-22)
    with weights.moved([(way, 0.25)]):
        for name, tensor in state(model).items():
            expected = 0.75 * here[name].double() + 0.25 * there[name].double()
            assert torch.allclose(tensor.double(), expected, rtol=2**-8 if dtype == torch.bfloat16 else 1e-7, atol=1e-7)


def test_the_way_from_the_base_to_its_adapted_model(adapted: Any, logits: Any) -> None:
    model = adapted()
    answered, target = logits(model), PerturbableWeights(model).values()
    with model.disable_adapter():
        weights = PerturbableWeights(model)
        with weights.moved([(TowardWeights(target, "tuned"), 1.0)]):
            assert torch.allclose(logits(model), answered, atol=1e-10)


def test_a_direction_belongs_to_names_and_seed_only(tiny: Any, adapted: Any) -> None:
    bare, wrapped = PerturbableWeights(tiny()), PerturbableWeights(adapted())
    assert bare.names == wrapped.names
    name = "model.layers.1.self_attn.q_proj.weight"
    weight = bare.value(name)
    first = RandomDirection(3).step(name, weight, False)
    assert first is not None
    assert torch.equal(first, RandomDirection(3).step(name, weight, False))  # type: ignore[arg-type]
    assert not torch.equal(first, RandomDirection(4).step(name, weight, False))  # type: ignore[arg-type]
    other = RandomDirection(3).step(name.replace("1", "2"), weight, False)
    assert not torch.equal(first, other)  # type: ignore[arg-type]


def test_an_empty_tensor_and_a_zero_one_take_no_step() -> None:
    zero = torch.zeros(3, 3, dtype=torch.float64)
    assert torch.equal(RandomDirection(1).step("a", zero, False), zero)  # type: ignore[arg-type]


def test_the_fingerprint_tells_models_apart(tiny: Any, adapted: Any) -> None:
    model = adapted()
    one = PerturbableWeights(model).fingerprint()
    assert PerturbableWeights(adapted()).fingerprint() == one
    assert PerturbableWeights(model, "adapter").fingerprint() != one
    with model.disable_adapter():
        assert PerturbableWeights(model).fingerprint() != one
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "lora_B" in n)[0, 0] += 1e-9
    assert PerturbableWeights(model).fingerprint() != one
    assert PerturbableWeights(tiny(seed=0)).fingerprint() != PerturbableWeights(tiny(seed=1)).fingerprint()
