"""Loading bases: every kind of name, and every way it can go wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import FAMILIES, save_tiny_base, tiny_model, tiny_tokenizer

from tvaccine_core.data.templates import PLAIN_TEMPLATE
from tvaccine_core.errors import InvalidRequest, UnknownBase, UnsupportedArchitecture
from tvaccine_core.models.base import base_config, base_digest, choose_device, choose_dtype, load_base
from tvaccine_core.models.digest import sha256_of
from tvaccine_core.models.registry import EMBEDDED, REGISTRY, cache_dir

TinyBase = Callable[[str], Path]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_directory_loads_frozen_and_ready(tiny_base: TinyBase, family: str) -> None:
    directory = tiny_base(family)
    before = {path.name for path in directory.iterdir()}
    base = load_base(str(directory), dtype="float32", device="cpu")
    assert base.name == f"tiny-{family}"
    assert base.digest == base_digest(str(directory))
    assert base.digest == f"sha256:{sha256_of([directory / 'model.safetensors'])}"
    assert not any(p.requires_grad for p in base.model.parameters())
    assert not base.model.training
    assert base.tokenizer.padding_side == "right"
    assert base.tokenizer.pad_token_id is not None
    assert {path.name for path in directory.iterdir()} == before


def test_a_digest_follows_the_weights_and_not_the_name(tiny_base: TinyBase, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_base("llama"), copy)
    assert base_digest(str(copy)) == base_digest(str(tiny_base("llama")))
    tiny_model("llama", seed=1).save_pretrained(copy)
    assert base_digest(str(copy)) != base_digest(str(tiny_base("llama")))


def test_a_digest_is_noted_in_the_cache_and_notes_are_used(tiny_base: TinyBase, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_base("llama"), copy)
    notes = cache_dir() / "digests"
    before = set(notes.iterdir()) if notes.exists() else set()
    first = base_digest(str(copy))
    (note,) = set(notes.iterdir()) - before
    note.write_text(note.read_text().replace(first, "sha256:noted"))
    assert base_digest(str(copy)) == "sha256:noted"


def test_sharded_weights_are_one_model(tmp_path: Path) -> None:
    directory = tmp_path / "sharded"
    tiny_model("qwen2").save_pretrained(directory, max_shard_size="60KB")
    tiny_tokenizer().save_pretrained(directory)
    shards = sorted(directory.glob("*.safetensors"))
    assert len(shards) > 1
    assert load_base(str(directory)).digest == f"sha256:{sha256_of(shards)}"
    shards[0].unlink()
    with pytest.raises(UnknownBase, match="lacks"):
        load_base(str(directory))


def test_names_that_mean_nothing_say_what_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("no such model", "../up", "smollm3", str(tmp_path / "x.gguf")):
        with pytest.raises(UnknownBase, match=EMBEDDED) as caught:
            load_base(name)
        assert caught.value.param == "model"


def test_weights_that_are_not_safetensors_are_not_loaded(tiny_base: TinyBase, tmp_path: Path) -> None:
    copy = tmp_path / "pickled"
    shutil.copytree(tiny_base("llama"), copy)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(UnknownBase, match="safetensors"):
        load_base(str(copy))


def test_broken_directories_are_unknown_bases(tiny_base: TinyBase, tmp_path: Path) -> None:
    copy = tmp_path / "broken"
    shutil.copytree(tiny_base("llama"), copy)
    (copy / "config.json").write_text('{"model_type": "no_such_type"}')
    with pytest.raises(UnknownBase, match="broken"):
        load_base(str(copy))
    (copy / "config.json").write_text("{")
    with pytest.raises(UnknownBase, match="broken"):
        load_base(str(copy))
    (copy / "model.safetensors").write_bytes(b"not weights")
    shutil.copy(tiny_base("llama") / "config.json", copy)
    with pytest.raises(UnknownBase, match="broken"):
        load_base(str(copy))


def test_a_gguf_file_that_is_none_is_an_unknown_base(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF but not really")
    with pytest.raises(UnknownBase, match="GGUF"):
        load_base(str(path))
    assert not [p for p in (cache_dir() / "bases").iterdir() if p.name.endswith(".part")]


def test_the_hub_being_out_of_reach_is_told_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnknownBase, match=r"nobody/nothing.*hub"):
        load_base("nobody/nothing")


def test_tokenizers_without_template_pad_or_end_token(tmp_path: Path) -> None:
    directory = save_tiny_base(tmp_path / "plain")
    tokenizer = tiny_tokenizer(None)
    tokenizer.pad_token = None
    (directory / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(directory)
    base = load_base(str(directory))
    assert base.tokenizer.chat_template == PLAIN_TEMPLATE
    assert base.tokenizer.pad_token_id == base.tokenizer.eos_token_id
    tokenizer.eos_token = None
    tokenizer.save_pretrained(directory)
    with pytest.raises(UnsupportedArchitecture, match="end token"):
        load_base(str(directory))


def test_models_without_attention_layers_are_unsupported(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, MambaConfig

    config = MambaConfig(vocab_size=400, hidden_size=16, num_hidden_layers=2, state_size=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "mamba")
    tiny_tokenizer().save_pretrained(tmp_path / "mamba")
    with pytest.raises(UnsupportedArchitecture):
        load_base(str(tmp_path / "mamba"))


def test_dtype_and_device_by_name() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert choose_dtype("auto", cpu) in (torch.bfloat16, torch.float32)
    assert choose_dtype("float64", cpu) == torch.float64
    assert choose_device("cpu") == cpu
    with pytest.raises(InvalidRequest, match="float16"):
        choose_dtype("float16", cpu)
    with pytest.raises(InvalidRequest, match="toaster"):
        choose_device("toaster")


def test_the_registry_names_one_set_of_weights_without_reading_them() -> None:
    assert base_digest(EMBEDDED) == f"sha256:{REGISTRY[EMBEDDED].sha256}"


@pytest.mark.real_base
def test_the_embedded_base_answers_sensibly() -> None:
    base = load_base(EMBEDDED, dtype="float32", device="cpu")
    assert base.digest == base_digest(EMBEDDED)
    assert {p.dtype for p in base.model.parameters()} == {torch.float32}
    assert len(base.model.model.layers) == 30
    turns = [{"role": "user", "content": "What is the capital of France?"}]
    asked = base.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = base.model.generate(**asked, max_new_tokens=12, do_sample=False)
    assert "Paris" in base.tokenizer.decode(answer[0, asked["input_ids"].shape[1] :])


def test_each_rank_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device("auto") == torch.device("cuda:3")
    assert choose_device("cpu") == torch.device("cpu")


def test_a_configuration_is_read_without_weights(tiny_base: TinyBase, tmp_path: Path) -> None:
    for source in tiny_base("qwen2").iterdir():
        if source.suffix != ".safetensors":
            (tmp_path / source.name).write_bytes(source.read_bytes())
    config = base_config(str(tmp_path))
    assert (config.model_type, config.num_hidden_layers) == ("qwen2", 3)
    with pytest.raises(UnknownBase, match="configuration"):
        base_config(str(tmp_path / "nothing"))
