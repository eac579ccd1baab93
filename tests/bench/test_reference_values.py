"""The bench that compares with reference values, on a tiny base and values computed with module hooks."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).resolve().parents[2] / "bench" / "reference_values.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("reference_values", BENCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hooked(model, selected, eps, inputs):
    """Loss and gradients at attention outputs of one pass with eager attention; eps are added to the outputs."""
    caught, handles = {}, []
    for index, layer in enumerate(model.model.layers):

        def forward(module, args, output, index=index):
            output[0].requires_grad_() if not output[0].requires_grad else None
            output[0].register_hook(lambda gradient: caught.__setitem__(index, gradient.clone()))
            return (output[0] + eps[index], *output[1:]) if index in eps else output

        handles.append(layer.self_attn.register_forward_hook(forward))
    loss = model(**inputs).loss
    loss.backward()
    for handle in handles:
        handle.remove()
    return loss.item(), {index: caught[index] for index in selected}


@pytest.fixture(scope="module")
def reference(tiny_base):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_base("llama"), attn_implementation="eager").float()
    model.requires_grad_(False)
    torch.manual_seed(3)
    ids = torch.randint(5, 300, (2, 15))
    labels, mask = ids.clone(), torch.ones_like(ids)
    labels[:, :6] = -100
    labels[1, 11:], mask[1, 11:] = -100, 0
    alignment = {"input_ids": ids, "labels": labels, "attention_mask": mask}
    harmful = {"input_ids": ids[:1, :12], "labels": labels[:1, :12]}
    harmful_loss, gradients = hooked(model, range(3), {}, harmful)
    norms = [float(gradient.norm()) for gradient in gradients.values()]
    selected, rho = [0, 2], 0.8
    loss, gradients = hooked(model, selected, {}, alignment)
    joint = sum(float(g.norm()) ** 2 for g in gradients.values()) ** 0.5
    eps = {index: rho * gradient / (joint + 1e-7) for index, gradient in gradients.items()}
    perturbed, _ = hooked(model, selected, eps, alignment)
    return {
        "harmful_loss": harmful_loss,
        "harmful_grad_norm_per_layer": norms,
        "sampling_probability": [norm / sum(norms) for norm in norms],
        "selected_layers": selected,
        "rho": rho,
        "loss_unperturbed": loss,
        "grad_norm_selected": [float(gradient.norm()) for gradient in gradients.values()],
        "perturbation_norm_selected": [float(e.norm()) for e in eps.values()],
        "joint_perturbation_norm": sum(float(e.norm()) ** 2 for e in eps.values()) ** 0.5,
        "loss_perturbed": perturbed,
        **{name: tensor.tolist() for name, tensor in alignment.items()},
        **{f"harmful_{name}": tensor.tolist() for name, tensor in harmful.items()},
    }


def run(bench, values, base, tmp_path, monkeypatch, *options):
    path = tmp_path / "values.json"
    path.write_text(json.dumps(values))
    monkeypatch.setattr(sys, "argv", ["reference_values.py", str(path), "--base", str(base), *options])
    return bench.main()


def test_reproduces_hooked_values(bench, reference, tiny_base, tmp_path, monkeypatch, capsys):
    assert run(bench, reference, tiny_base("llama"), tmp_path, monkeypatch, "--json") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["passed"] is True
    assert result["deviations"].keys() == {"efficient", "two_pass"}
    for deviations in result["deviations"].values():
        assert len(deviations) == 8
        assert max(deviations.values()) < 1e-4


@pytest.mark.parametrize("name", ["loss_perturbed", "grad_norm_selected"])
def test_a_wrong_value_is_named(bench, reference, tiny_base, tmp_path, monkeypatch, capsys, name):
    wrong = json.loads(json.dumps(reference))
    if isinstance(wrong[name], list):
        wrong[name][-1] *= 1.01
    else:
        wrong[name] *= 1.01
    assert run(bench, wrong, tiny_base("llama"), tmp_path, monkeypatch, "--scheme", "efficient") == 1
    lines = {line.split()[1]: float(line.split()[2]) for line in capsys.readouterr().out.splitlines()[:-1]}
    assert lines.pop(name) == pytest.approx(0.01 / 1.01, rel=0.05)
    assert max(lines.values()) < 1e-4
