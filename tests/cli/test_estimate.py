import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli.estimate import estimate_command
from tvaccine_core.errors import InvalidRequest, UnknownBase

app = typer.Typer()
app.command()(estimate_command)


def estimate(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_prints_what_a_step_needs(tiny_base: Any) -> None:
    base = tiny_base("llama")
    done = estimate("--base", str(base), "--config", "batch_size=2", "--config", "max_length=32", "--config", "gamma=1")
    assert done.exit_code == 0, done.output
    assert "A step of 2 rows of 32 tokens needs at most about" in done.output
    told = json.loads(estimate("--base", str(base), "--config", "max_length=64", "--json").output.splitlines()[-1])
    assert (told["base"], told["layers"], told["tokens"], told["recomputed"]) == (str(base), 3, 64, 0)
    parts = ("weights", "adapters", "activations", "head")
    assert told["total"] == pytest.approx(sum(told[part] for part in parts))


def test_settings_count(tiny_base: Any) -> None:
    base = str(tiny_base("llama"))

    def total(*arguments: str) -> float:
        done = estimate("--base", base, "--json", *arguments)
        assert done.exit_code == 0, done.output
        return json.loads(done.output.splitlines()[-1])["total"]

    plain = total()
    assert total("--config", "batch_size=8") > plain
    assert total("--dtype", "float32") > plain
    assert total("--config", "quantization=4bit") < plain
    assert total("--config", "lora_r=32") > plain


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        (("--config", "gamma=none"), "gamma"),
        (("--method", "tar"), "method"),
        (("--config", "scheme=published"), "scheme"),
        (("--config", "quantization=3bit"), "quantization"),
        (("--dtype", "int4"), "dtype"),
    ],
)
def test_what_cannot_be_estimated_names_the_setting(tiny_base: Any, arguments: tuple[str, ...], param: str) -> None:
    done = estimate("--base", str(tiny_base("llama")), *arguments)
    assert isinstance(done.exception, InvalidRequest)
    assert done.exception.param == param


def test_a_base_that_is_not_there(tmp_path: Path) -> None:
    done = estimate("--base", str(tmp_path / "nothing"))
    assert isinstance(done.exception, UnknownBase)
