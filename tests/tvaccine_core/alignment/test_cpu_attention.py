import pytest
import torch

from tvaccine_core.alignment.cpu_attention import attend_in_float32


@pytest.mark.parametrize("padded", [False, True])
def test_bfloat16_on_a_cpu(setting, batch, padded):
    here = setting(dtype=torch.bfloat16)
    inputs = {"input_ids": batch()["input_ids"], "attention_mask": batch()["attention_mask"] if padded else None}
    real = batch()["attention_mask"].bool()
    with torch.no_grad():
        expected = here.model(**inputs).logits
        restore = attend_in_float32(here.model)
        assert here.model.config._attn_implementation == "sdpa_float32"
        ours = here.model(**inputs).logits
    assert ours.dtype == torch.bfloat16
    assert torch.cosine_similarity(ours[real].float(), expected[real].float(), dim=-1).min() > 0.99
    restore()
    with torch.no_grad():
        assert torch.equal(here.model(**inputs).logits, expected)


def test_others_are_left_alone(setting):
    for here in (setting(dtype=torch.float32), setting("gemma2", dtype=torch.bfloat16)):
        before = here.model.config._attn_implementation
        attend_in_float32(here.model)()
        assert here.model.config._attn_implementation == before
