import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForCausalLM,
    BertConfig,
    FalconH1Config,
    GPT2Config,
    GPTNeoXConfig,
    JambaConfig,
    MambaConfig,
    MistralConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from tvaccine_core.errors import UnsupportedArchitecture
from tvaccine_core.models.layers import find_layers

COMMON = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
FITTING = {
    "llama": ("model.layers", "self_attn"),
    "qwen2": ("model.layers", "self_attn"),
    "gemma2": ("model.layers", "self_attn"),
    "opt": ("model.decoder.layers", "self_attn"),
}


@pytest.mark.parametrize("family", FITTING)
def test_finds_layers_and_attention(family):
    from tiny_models import tiny_model

    model = tiny_model(family, layers=3)
    layers = find_layers(model)
    assert (layers.path, layers.attention_name) == FITTING[family]
    assert len(layers) == len(layers.layers) == 3
    assert layers.attention_paths[2] == f"{layers.path}.2.self_attn"
    for path, module in zip(layers.attention_paths, layers.attention, strict=True):
        assert model.get_submodule(path) is module


@pytest.mark.parametrize("family", FITTING)
def test_through_peft(family):
    from tiny_models import tiny_model

    base = tiny_model(family)
    expected = find_layers(base)
    wrapped = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear"))
    layers = find_layers(wrapped)
    assert layers.attention == expected.attention
    assert layers.path == f"base_model.model.{expected.path}"
    assert wrapped.get_submodule(layers.attention_paths[0]) is layers.attention[0]


@pytest.mark.parametrize(
    ("config", "path", "name"),
    [
        (MistralConfig(**COMMON, intermediate_size=16, num_key_value_heads=1), "model.layers", "self_attn"),
        (GPTNeoXConfig(**COMMON, intermediate_size=16), "gpt_neox.layers", "attention"),
        (GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2), "transformer.h", "attn"),
    ],
)
def test_other_families(config, path, name):
    layers = find_layers(AutoModelForCausalLM.from_config(config))
    assert (layers.path, layers.attention_name) == (path, name)


def test_by_path_not_by_class_name():
    from tiny_models import tiny_model

    model = tiny_model()
    for layer in model.model.layers:
        layer.self_attn.__class__ = type("SomethingElse", (type(layer.self_attn),), {})
        layer.__class__ = type("Another", (type(layer),), {})
    assert len(find_layers(model)) == 3


def refused(model):
    with pytest.raises(UnsupportedArchitecture) as error:
        find_layers(model)
    assert error.value.param == "model"
    assert model.config.model_type in error.value.message
    return error.value.message


def test_state_space_models_are_refused():
    config = MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, state_size=4)
    assert "mixer" in refused(AutoModelForCausalLM.from_config(config))


def test_hybrids_are_refused():
    config = JambaConfig(
        **COMMON | {"num_hidden_layers": 4},
        intermediate_size=16,
        num_key_value_heads=1,
        attn_layer_period=2,
        attn_layer_offset=1,
        use_mamba_kernels=False,
        num_experts=2,
    )
    assert "mamba" in refused(AutoModelForCausalLM.from_config(config))
    beside = FalconH1Config(
        **COMMON, intermediate_size=16, num_key_value_heads=1, mamba_d_ssm=16, mamba_n_heads=2, mamba_d_head=8
    )
    assert "mamba" in refused(AutoModelForCausalLM.from_config(beside))


def test_encoder_decoders_are_refused():
    config = T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2)
    assert "encoder-decoder" in refused(T5ForConditionalGeneration(config))
    config = BartConfig(vocab_size=50, d_model=16, decoder_layers=2, encoder_layers=2, decoder_ffn_dim=16)
    config.decoder_attention_heads = config.encoder_attention_heads = 2
    config.encoder_ffn_dim = 16
    message = refused(BartForCausalLM(config))
    assert "encoder-decoder" in message or "encoder_attn" in message


def test_attention_that_is_not_before_the_residual_is_refused():
    config = BertConfig(**COMMON, intermediate_size=16, is_decoder=True)
    assert "no attention module" in refused(AutoModelForCausalLM.from_config(config))


def test_the_message_names_the_model():
    model = torch.nn.Linear(2, 2)
    with pytest.raises(UnsupportedArchitecture, match="Linear"):
        find_layers(model)
