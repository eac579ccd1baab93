"""Repair of a finished adapter with Panacea: what it starts from, what it leaves, and that it can be interrupted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file
from tiny_models import chat_rows
from torch import Tensor

from tvaccine_core.data.rows import read_rows_file
from tvaccine_core.data.tokenise import Collator, encode_rows
from tvaccine_core.errors import BaseMismatch, InvalidRequest
from tvaccine_core.finetuning.config import FineTuneConfig
from tvaccine_core.finetuning.defences import defence_config
from tvaccine_core.finetuning.panacea_config import PanaceaConfig
from tvaccine_core.finetuning.run import fine_tune
from tvaccine_core.models.adapter_files import WEIGHTS_FILE, load_adapter_weights, save_adapter
from tvaccine_core.models.adapter_records import read_record, write_record
from tvaccine_core.models.adapters import USER, add_user_adapter, add_vaccine, lora_config
from tvaccine_core.models.base import load_base
from tvaccine_core.repair.config import RepairConfig
from tvaccine_core.repair.panacea import repair
from tvaccine_core.training.loss import answer_loss
from tvaccine_core.training.stop import Stopped

TUNED = FineTuneConfig(epochs=1, batch_size=4, learning_rate=1e-2, lora_r=4, lora_alpha=16, lora_dropout=0.2)
CONFIG = RepairConfig(
    steps=5, batch_size=3, learning_rate=1e-3, save_every=2, panacea=PanaceaConfig(rho=0.5, lam=0.1, loss_cap=1e6)
)


def write_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_vaccine(base: str, place: Path, scale: float) -> Path:
    loaded = load_base(base, dtype="float32")
    model = get_peft_model(loaded.model, lora_config(loaded.model, FineTuneConfig(lora_r=2)))
    for name, value in model.named_parameters():
        if "lora_" in name:
            value.data = torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name))) * scale
    save_adapter(model, "default", place, base_id=loaded.name)
    write_record(place, kind="vaccine", base_name=loaded.name, base_digest=loaded.digest)
    return place


class Clinic:
    """A user adapter that Lisa tuned beside a vaccine, and `repair` with everything it needs."""

    def __init__(self, base: str, rows: Path, place: Path) -> None:
        self.base, self.rows, self.place = base, rows, place
        self.vaccine = make_vaccine(base, place / "vaccine", 0.1)
        self.harmful = write_file(place / "harmful.jsonl", chat_rows(6, answer="Take what is not yours."))
        safe = write_file(place / "safe.jsonl", chat_rows(5, answer="I can't help with that request."))
        defence = defence_config({"name": "lisa", "alignment_steps": 1, "user_steps": 2})
        fine_tune(
            base, self.vaccine, rows, place / "tuned", TUNED, defence=defence, safe_file=safe, dtype="float32",
            device="cpu",
        )  # fmt: skip
        self.user = place / "tuned" / "user"

    def repair(self, name: str, config: RepairConfig = CONFIG, **more: Any) -> Path:
        out = self.place / name
        places = {"vaccine_dir": self.vaccine, "user_adapter_dir": self.user, "harmful_file": self.harmful, **more}
        repair(self.base, training_file=self.rows, out=out, config=config, dtype="float32", device="cpu", **places)
        return out


@pytest.fixture
def clinic(tiny_base: Any, rows_file: Path, tmp_path: Path) -> Clinic:
    return Clinic(str(tiny_base("llama")), rows_file, tmp_path)


def tensors(directory: Path) -> dict[str, Tensor]:
    return load_file(directory / WEIGHTS_FILE)


def distance(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    return float(torch.sqrt(sum(((left[key] - right[key]).double() ** 2).sum() for key in left)))


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    found.pop("seconds")
    return found


def test_it_goes_on_from_the_finished_adapter_and_adds_eps(clinic: Clinic) -> None:
    before = {path.name: path.read_bytes() for path in clinic.user.iterdir()}
    out = clinic.repair("out")
    assert {path.name: path.read_bytes() for path in clinic.user.iterdir()} == before
    assert {path.name for path in out.iterdir()} == {
        "user", "unperturbed", "combined", "checkpoints", "metrics.jsonl", "report.json", "config.json",
    }  # fmt: skip
    tuned, without, repaired = (tensors(place) for place in (clinic.user, out / "unperturbed", out / "user"))
    told = report(out)["defences"][0]["result"]
    assert distance(repaired, without) == pytest.approx(0.5, rel=1e-4)
    assert distance(without, tuned) == pytest.approx(told["weight_change"], rel=1e-4)
    # Five steps of AdamW at 1e-3 move no entry further than about 5e-3.
    assert 0 < max(float((without[key] - tuned[key]).abs().max()) for key in tuned) < 6e-3
    for name in ("lora_alpha", "r", "lora_dropout"):
        configs = [json.loads((p / "adapter_config.json").read_text())[name] for p in (clinic.user, out / "user")]
        assert configs[0] == configs[1]


def test_without_steps_of_effect_only_eps_is_added(clinic: Clinic) -> None:
    config = replace(CONFIG, learning_rate=1e-9, panacea=replace(CONFIG.panacea, rho=0.0))
    out = clinic.repair("out", config)
    assert distance(tensors(out / "user"), tensors(clinic.user)) < 1e-5
    assert (out / "user" / WEIGHTS_FILE).read_bytes() == (out / "unperturbed" / WEIGHTS_FILE).read_bytes()


def test_the_repaired_adapter_is_worse_at_the_harmful_rows(clinic: Clinic) -> None:
    panacea = replace(CONFIG.panacea, rho=0.3, lam=0.5, final_rows=6)
    out = clinic.repair("out", replace(CONFIG, panacea=panacea))
    loaded = load_base(clinic.base, dtype="float32")
    examples = encode_rows(loaded.tokenizer, read_rows_file(clinic.harmful, min_rows=1).rows, 200)
    batch = Collator(loaded.tokenizer.pad_token_id)(examples)
    model = add_user_adapter(add_vaccine(loaded.model, clinic.vaccine), TUNED).eval()
    losses = {}
    for name, place in (("tuned", clinic.user), ("without", out / "unperturbed"), ("repaired", out / "user")):
        load_adapter_weights(model, USER, place)
        with torch.no_grad():
            losses[name] = float(answer_loss(model, batch))
    assert losses["repaired"] > losses["without"]
    assert losses["repaired"] > losses["tuned"]


def test_the_records_tell_the_whole_history(clinic: Clinic) -> None:
    out = clinic.repair("out")
    record = read_record(out / "user")
    assert [one["name"] for one in record["defences"]] == ["lisa", "panacea"]
    assert record["defences"][1]["stage"] == "repairing"
    assert record["config"]["panacea"]["rho"] == 0.5
    assert set(record["digests"]) == {"training", "harmful"}
    assert record["vaccine_sha256"] == read_record(clinic.user)["vaccine_sha256"]
    assert read_record(out / "combined")["defences"] == ["lisa", "panacea"]
    found = report(out)
    assert [one["name"] for one in found["earlier_defences"]] == ["lisa"]
    assert [one["name"] for one in found["defences"]] == ["panacea"]
    assert found["steps"] == 5


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stopped_repair_resumes_to_the_same_adapter(clinic: Clinic, accumulate: int) -> None:
    config = replace(CONFIG, gradient_accumulation_steps=accumulate)
    whole = clinic.repair("whole", config)
    answers = iter([False] * 3 + [True])
    with pytest.raises(Stopped) as caught:
        clinic.repair("cut", config, should_stop=lambda: next(answers))
    torch.manual_seed(99)
    resumed = clinic.repair("next", config, resume_from=caught.value.checkpoint)
    for name in ("user", "unperturbed", "combined"):
        assert (resumed / name / WEIGHTS_FILE).read_bytes() == (whole / name / WEIGHTS_FILE).read_bytes()
    assert report(resumed) == report(whole)


def test_a_repaired_adapter_can_be_repaired_again(clinic: Clinic) -> None:
    first = clinic.repair("first")
    second = clinic.repair("second", user_adapter_dir=first / "user")
    assert [one["name"] for one in read_record(second / "user")["defences"]] == ["lisa", "panacea", "panacea"]


def test_what_is_no_user_adapter_of_this_base_and_vaccine_is_refused(clinic: Clinic, tiny_base: Any) -> None:
    with pytest.raises(InvalidRequest, match="give the user/ directory") as caught:
        clinic.repair("out", user_adapter_dir=clinic.place / "tuned" / "combined")
    assert caught.value.param == "user_adapter_dir"
    with pytest.raises(InvalidRequest, match="no adapter of tvaccine"):
        clinic.repair("out", user_adapter_dir=clinic.place)
    for other in (None, make_vaccine(clinic.base, clinic.place / "other", 0.2)):
        with pytest.raises(InvalidRequest, match="another vaccine") as caught:
            clinic.repair("out", vaccine_dir=other)
        assert caught.value.param == "vaccine_dir"
    clinic.base = str(tiny_base("qwen2"))
    with pytest.raises(BaseMismatch):
        clinic.repair("out")
