"""Two adapters at once, their files, and their exact combination into one."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES

from tvaccine_core.errors import BaseMismatch, InvalidRequest
from tvaccine_core.models.adapter_files import WEIGHTS_FILE, load_adapter_weights, save_adapter
from tvaccine_core.models.adapter_records import check_base, read_record, write_record
from tvaccine_core.models.adapters import (
    USER,
    VACCINE,
    add_user_adapter,
    add_vaccine,
    combine_adapters,
    load_combined,
    lora_config,
    lora_targets,
    train_only,
)
from tvaccine_core.models.base import Base, load_base

TinyBase = Callable[[str], Path]


@dataclass(frozen=True)
class Settings:
    lora_r: int = 4
    lora_alpha: int = 8
    lora_dropout: float = 0.0


def randomise(model: PeftModel, name: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for key, value in model.named_parameters():
        if f".{name}." in key:
            value.data = torch.randn(value.shape, generator=generator) * 0.2


def make_adapter(base: Base, out: Path, kind: str, settings: Settings, seed: int, **changes: Any) -> Path:
    """A random adapter of one kind on disk; takes the base's model over."""
    config = lora_config(base.model, settings)
    for name, value in changes.items():
        setattr(config, name, value)
    model = get_peft_model(base.model, config)
    randomise(model, "default", seed)
    save_adapter(model, "default", out, base_id=base.name)
    write_record(out, kind=kind, base_name=base.name, base_digest=base.digest)
    return out


def load(tiny_base: TinyBase, family: str = "llama", dtype: str = "float32") -> Base:
    return load_base(str(tiny_base(family)), dtype=dtype, device="cpu")


def two_adapters(base: Base, vaccine: Path, user: Path, settings: Settings) -> PeftModel:
    model = add_user_adapter(add_vaccine(base.model, vaccine, base_digest=base.digest), settings)
    load_adapter_weights(model, USER, user)
    return model.eval()


IDS = torch.randint(3, 300, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_combined_adapter_on_the_stock_base_equals_the_two(
    tiny_base: TinyBase, tmp_path: Path, family: str
) -> None:
    vaccine = make_adapter(load(tiny_base, family), tmp_path / "v", "vaccine", Settings(8, 16), 1)
    user = make_adapter(load(tiny_base, family), tmp_path / "u", "user", Settings(4, 2), 2)
    base = load(tiny_base, family)
    stock = base.model(IDS).logits
    out = tmp_path / "combined"
    combine_adapters(vaccine, user, out, base_id="owner/tiny", base_digest=base.digest)
    two = two_adapters(base, vaccine, user, Settings(4, 2))(IDS).logits

    fresh = load(tiny_base, family).model
    combined = PeftModel.from_pretrained(fresh, str(out)).eval()(IDS).logits
    assert (two - stock).abs().max() > 0.05
    assert (two - combined).abs().max() < 1e-4
    again = load_combined(load(tiny_base, family).model, out, base_digest=base.digest)
    assert torch.equal(again(IDS).logits, combined)
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())


@pytest.mark.parametrize("present", ["vaccine", "user"])
def test_one_adapter_alone_combines_to_itself(tiny_base: TinyBase, tmp_path: Path, present: str) -> None:
    only = make_adapter(load(tiny_base), tmp_path / "only", present, Settings(4, 6), 1)
    base = load(tiny_base)
    given = (only, None) if present == "vaccine" else (None, only)
    combine_adapters(*given, tmp_path / "c", base_id="owner/tiny", base_digest=base.digest)
    expected = PeftModel.from_pretrained(base.model, str(only)).eval()(IDS).logits
    got = load_combined(load(tiny_base).model, tmp_path / "c")(IDS).logits
    assert (got - expected).abs().max() < 1e-5


def test_modules_of_only_one_adapter_count_as_zero_in_the_other(tiny_base: TinyBase, tmp_path: Path) -> None:
    vaccine = make_adapter(
        load(tiny_base), tmp_path / "v", "vaccine", Settings(4, 4), 1, target_modules={"q_proj", "v_proj"}
    )
    user = make_adapter(
        load(tiny_base), tmp_path / "u", "user", Settings(2, 4), 2, target_modules={"v_proj", "up_proj"}
    )
    base = load(tiny_base)
    combine_adapters(vaccine, user, tmp_path / "c", base_id="t", base_digest=base.digest)
    state = load_file(tmp_path / "c" / WEIGHTS_FILE)
    assert {value.shape[0] for key, value in state.items() if "lora_A" in key} == {6}
    both = PeftModel.from_pretrained(base.model, str(vaccine), adapter_name=VACCINE)
    both.load_adapter(str(user), USER)
    train_only(both, None)
    got = load_combined(load(tiny_base).model, tmp_path / "c")(IDS).logits
    assert (got - both.eval()(IDS).logits).abs().max() < 1e-4


def test_the_combined_files_hold_the_public_name_and_no_path(tiny_base: TinyBase, tmp_path: Path) -> None:
    base = load(tiny_base)
    user = make_adapter(load(tiny_base), tmp_path / "u", "user", Settings(), 2)
    for out in (tmp_path / "c1", tmp_path / "c2"):
        combine_adapters(None, user, out, base_id="owner/tiny", base_digest=base.digest)
    config = json.loads((tmp_path / "c1" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "owner/tiny"
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (4, 4, {})
    assert config["target_modules"] == lora_targets(base.model)
    assert read_record(tmp_path / "c1")["base_digest"] == base.digest
    assert read_record(tmp_path / "c1")["kind"] == "combined"
    for path in sorted((tmp_path / "c1").iterdir()):
        assert str(tmp_path) not in path.read_bytes().decode("utf-8", "replace")
        assert path.read_bytes() == (tmp_path / "c2" / path.name).read_bytes()
    assert {path.name for path in (tmp_path / "c1").iterdir()} == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "tvaccine.json",
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("use_rslora", True),
        ("use_dora", True),
        ("modules_to_save", ["lm_head"]),
        ("rank_pattern", {"q_proj": 2}),
        ("alpha_pattern", {"q_proj": 2}),
        ("bias", "all"),
        ("bias", "lora_only"),
        ("lora_bias", True),
        ("init_lora_weights", "pissa"),
        ("layers_to_transform", [0]),
        ("trainable_token_indices", [1, 2]),
        ("peft_type", "IA3"),
    ],
)
def test_adapters_that_are_no_plain_lora_are_refused(
    tiny_base: TinyBase, tmp_path: Path, field: str, value: Any
) -> None:
    base = load(tiny_base)
    user = make_adapter(load(tiny_base), tmp_path / "u", "user", Settings(), 2)
    config = json.loads((user / "adapter_config.json").read_text())
    (user / "adapter_config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(InvalidRequest, match="plain LoRA"):
        combine_adapters(None, user, tmp_path / "c", base_id="t", base_digest=base.digest)
    assert not (tmp_path / "c").exists()


def test_files_that_hold_other_tensors_than_the_config_says_are_refused(tiny_base: TinyBase, tmp_path: Path) -> None:
    base = load(tiny_base)
    user = make_adapter(load(tiny_base), tmp_path / "u", "user", Settings(), 2)
    state = load_file(user / WEIGHTS_FILE)
    first = next(iter(state))
    for broken in (
        {key: value for key, value in state.items() if key != first},
        state | {"base_model.model.lm_head.weight": torch.zeros(2, 2)},
        {key: value[:2] if "lora_A" in key else value[:, :2] for key, value in state.items()},
        {},
    ):
        save_file({k: v.contiguous() for k, v in broken.items()}, user / WEIGHTS_FILE)
        with pytest.raises(InvalidRequest, match="plain"):
            combine_adapters(None, user, tmp_path / "c", base_id="t", base_digest=base.digest)


def test_another_base_is_refused_everywhere(tiny_base: TinyBase, tmp_path: Path) -> None:
    vaccine = make_adapter(load(tiny_base), tmp_path / "v", "vaccine", Settings(), 1)
    other = load(tiny_base, "qwen2")
    with pytest.raises(BaseMismatch, match="tiny-llama"):
        add_vaccine(other.model, vaccine, base_digest=other.digest)
    with pytest.raises(BaseMismatch):
        combine_adapters(vaccine, None, tmp_path / "c", base_id="t", base_digest=other.digest)
    with pytest.raises(BaseMismatch):
        load_combined(other.model, vaccine, base_digest=other.digest)
    check_base(vaccine, load(tiny_base).digest)
    (vaccine / "tvaccine.json").unlink()
    with pytest.raises(InvalidRequest, match=r"tvaccine\.json"):
        check_base(vaccine, other.digest)
    with pytest.raises(InvalidRequest, match="no adapter"):
        combine_adapters(None, None, tmp_path / "c", base_id="t", base_digest=other.digest)
    with pytest.raises(ValueError, match="kind"):
        write_record(tmp_path, kind="toaster", base_name="t", base_digest="d")


def test_only_the_user_adapter_trains_and_both_take_part(tiny_base: TinyBase, tmp_path: Path) -> None:
    vaccine = make_adapter(load(tiny_base), tmp_path / "v", "vaccine", Settings(), 1)
    user = make_adapter(load(tiny_base), tmp_path / "u", "user", Settings(), 2)
    base = load(tiny_base)
    model = two_adapters(base, vaccine, user, Settings())
    trainable = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trainable
    assert all(f".{USER}." in name for name in trainable)
    assert len(trainable) == sum(f".{USER}." in name for name, _ in model.named_parameters())
    with model.disable_adapter():
        model(IDS)
    # PEFT makes every adapter trainable again when it switches them back on.
    train_only(model, USER)
    assert {name for name, value in model.named_parameters() if value.requires_grad} == trainable

    layer = model.get_submodule("base_model.model.model.layers.1.mlp.up_proj")
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(3))
    expected = layer.base_layer(x)
    for name in (VACCINE, USER):
        expected = expected + 2.0 * layer.lora_B[name](layer.lora_A[name](x))
    assert torch.allclose(layer(x), expected, atol=1e-5)


def test_a_fresh_user_adapter_changes_nothing_yet(tiny_base: TinyBase, tmp_path: Path) -> None:
    vaccine = make_adapter(load(tiny_base), tmp_path / "v", "vaccine", Settings(), 1)
    alone = add_vaccine(load(tiny_base).model, vaccine).eval()
    assert not any(value.requires_grad for value in alone.parameters())
    expected = alone(IDS).logits
    assert torch.equal(add_user_adapter(alone, Settings()).eval()(IDS).logits, expected)


def test_adapters_are_float32_on_a_bfloat16_base(tiny_base: TinyBase, tmp_path: Path) -> None:
    vaccine = make_adapter(load(tiny_base), tmp_path / "v", "vaccine", Settings(), 1)
    base = load(tiny_base, dtype="bfloat16")
    model = add_user_adapter(add_vaccine(base.model, vaccine), Settings())
    kinds = {value.dtype for name, value in model.named_parameters() if "lora_" in name}
    assert kinds == {torch.float32}
    assert model(IDS).logits.dtype == torch.bfloat16


def test_weights_survive_saving_and_loading_bit_by_bit(tiny_base: TinyBase, tmp_path: Path) -> None:
    user = make_adapter(load(tiny_base), tmp_path / "u", "user", Settings(), 2)
    model = add_user_adapter(load(tiny_base).model, Settings())
    load_adapter_weights(model, USER, user)
    save_adapter(model, USER, tmp_path / "again", base_id="tiny-llama")
    assert (tmp_path / "again" / WEIGHTS_FILE).read_bytes() == (user / WEIGHTS_FILE).read_bytes()
    with pytest.raises(InvalidRequest, match="other tensors"):
        load_adapter_weights(add_user_adapter(load(tiny_base).model, Settings(2)), USER, user)


def test_all_linear_maps_of_the_layers_are_adapted_and_the_head_is_not(tiny_base: TinyBase) -> None:
    llama = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert lora_targets(load(tiny_base).model) == llama
    assert lora_targets(load(tiny_base, "opt").model) == [
        "fc1",
        "fc2",
        "k_proj",
        "out_proj",
        "q_proj",
        "v_proj",
    ]
    model = add_user_adapter(load(tiny_base).model, Settings())
    assert lora_targets(model) == llama
    assert isinstance(model.peft_config[USER], LoraConfig)
    assert not any("lm_head.lora" in name for name, _ in model.named_parameters())


@pytest.mark.real_base
def test_the_combination_is_exact_on_the_embedded_base(tmp_path: Path) -> None:
    from tvaccine_core.models.registry import EMBEDDED

    def fresh() -> Base:
        return load_base(EMBEDDED, dtype="float32", device="cpu")

    base = fresh()
    vaccine = make_adapter(base, tmp_path / "v", "vaccine", Settings(8, 8), 1)
    user = make_adapter(fresh(), tmp_path / "u", "user", Settings(4, 8), 2)
    for path in (vaccine, user):  # random weights of this size would drown the base
        state = {key: value * 0.05 for key, value in load_file(path / WEIGHTS_FILE).items()}
        save_file(state, path / WEIGHTS_FILE)
    combine_adapters(vaccine, user, tmp_path / "c", base_id=base.name, base_digest=base.digest)
    ids = IDS * 100
    with torch.no_grad():
        two = two_adapters(fresh(), vaccine, user, Settings(4, 8))(ids).logits
        stock = fresh().model
        plain = stock(ids).logits
        combined = PeftModel.from_pretrained(stock, str(tmp_path / "c")).eval()(ids).logits
    assert (two - plain).abs().max() > 0.05
    assert (two - combined).abs().max() < 1e-4
