"""Runs of Booster and TAR that are stopped or cut off go on to the same bits."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tvaccine_core.alignment.added_gradient_runs import METHODS, Build, lines, same, trained
from tvaccine_core.alignment.trainer import STATE_FILE
from tvaccine_core.models.adapter_files import adapter_weights
from tvaccine_core.models.adapters import VACCINE
from tvaccine_core.training.checkpoints import latest_checkpoint
from tvaccine_core.training.stop import Stopped


@METHODS
def test_a_stopped_run_resumes_to_the_same_bits(make_trainer: Build, config: Any) -> None:
    """Asked before the first step and after each: stops between the third and the fourth outer step."""
    whole = make_trainer(config, "whole")
    expected = trained(whole)
    asked = iter([False] * 3 + [True])
    with pytest.raises(Stopped) as stopped:
        make_trainer(config, "first", should_stop=lambda: next(asked)).run()
    assert stopped.value.step == 3
    checkpoint = stopped.value.checkpoint
    assert checkpoint is not None
    read = {name: taken // 4 * 3 for name, taken in whole.report()["rows_read"].items()}
    assert json.loads((checkpoint / STATE_FILE).read_text()) == {"taken": read}
    torch.manual_seed(999)
    resumed = make_trainer(config, "second")
    assert same(trained(resumed, checkpoint), expected)
    assert lines(resumed) == lines(whole)
    assert resumed.report() == whole.report()


@METHODS
def test_a_run_that_fails_inside_an_outer_step_resumes_to_the_same_bits(make_trainer: Build, config: Any) -> None:
    whole = make_trainer(config, "whole")
    expected = trained(whole)
    cut = make_trainer(config, "cut")
    own, calls = cut.backward_mean_loss, []
    before: dict[str, Tensor] = {}

    def failing(inputs: Any) -> Tensor:
        calls.append(cut.state.global_step)
        if cut.state.global_step == 3:
            if calls.count(3) == 2:  # in the middle of the fourth outer step, at moved weights
                raise RuntimeError("power cut")
            before.update({name: tensor.clone() for name, tensor in adapter_weights(cut.model, VACCINE).items()})
        return own(inputs)

    cut.backward_mean_loss = failing  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="power cut"):
        cut.run()
    assert same(adapter_weights(cut.model, VACCINE), before)
    checkpoint = latest_checkpoint(cut.metrics.path.parent / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.name == "checkpoint-2"
    resumed = make_trainer(config, "next")
    assert same(trained(resumed, checkpoint), expected)
    assert lines(resumed) == lines(whole)


@METHODS
def test_a_stop_before_the_first_step_reads_no_harmful_row(make_trainer: Build, config: Any) -> None:
    trainer = make_trainer(config, should_stop=lambda: True)
    with pytest.raises(Stopped) as stopped:
        trainer.run()
    assert (stopped.value.step, stopped.value.checkpoint) == (0, None)
    assert set(trainer.report()["rows_read"].values()) == {0}
