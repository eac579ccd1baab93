"""Lisa: two states, a proximal term between them, and plain fine-tuning where there is neither."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainerCallback

from tvaccine_core.finetuning.defences import Defence
from tvaccine_core.finetuning.lisa import ALIGNMENT, USER
from tvaccine_core.finetuning.lisa_config import LisaConfig
from tvaccine_core.training.metrics import read_metrics

Build = Callable[..., Any]


def lisa(**settings: Any) -> Defence:
    return Defence(rule=LisaConfig(**settings))


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def distance(left: list[Tensor], right: list[Tensor]) -> float:
    return float(torch.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(left, right, strict=True))))


def lines_of(watched: Any) -> list[dict[str, Any]]:
    return read_metrics(watched.trainer.metrics.path)


class EachStep(TrainerCallback):
    def __init__(self, call: Callable[[int], None]) -> None:
        self._call = call

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._call(state.global_step)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 9])
@pytest.mark.parametrize(("k1", "k2"), [(2, 3), (1, 1), (0, 4), (5, 2)])
def test_the_clock_gives_every_step_a_state_and_ends_with_the_user(steps: int, k1: int, k2: int) -> None:
    config = LisaConfig(alignment_steps=k1, user_steps=k2)
    total = config.total_steps(steps)
    states = [config.in_alignment(step) for step in range(total)]
    expected: list[bool] = []
    while expected.count(False) < steps:
        expected += [True] * k1 + [False] * min(k2, steps - expected.count(False))
    assert states == expected
    for state in (True, False):
        places = [config.state_step(step) for step in range(total) if states[step] == state]
        assert places == list(range(len(places)))
    switches = [step for step in range(total - 1) if config.switches_after(step)]
    assert switches == [step for step in range(total - 1) if states[step] != states[step + 1]]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_states_follow_each_other_and_each_sees_its_own_rows(build: Build, accumulate: int) -> None:
    batch_size = 3 if accumulate == 1 else 2
    watched = build(
        lisa(alignment_steps=2, user_steps=3),
        epochs=3, batch_size=batch_size, gradient_accumulation_steps=accumulate,
    )  # fmt: skip
    watched.trainer.run()
    user, safe = ([id(row) for row in rows] for rows in (watched.rows.user, watched.rows.safe))
    kinds = []
    for batch in watched.batches:
        drawn = {id(row) for row in batch}
        kinds.append("A" if drawn <= set(safe) else "F" if drawn <= set(user) else "mixed")
    steps = watched.course.plan.steps
    names = ["A" if step % 5 < 2 else "F" for step in range(steps)]
    assert kinds == [name for name in names for _ in range(accumulate)]
    drawn_user = [id(row) for batch, kind in zip(watched.batches, kinds, strict=True) if kind == "F" for row in batch]
    assert sorted(drawn_user.count(row) for row in user) == [3] * 12  # three epochs, none lost to alignment
    assert [line["alignment_state"] for line in lines_of(watched)] == [float(name == "A") for name in names]


def test_anchors_move_exactly_at_switches(build: Build) -> None:
    watched = build(lisa(alignment_steps=2, user_steps=3, rho=0.5, warmup_share=0.0), epochs=2)
    trainer = watched.trainer
    seen: list[tuple[list[Tensor], list[Tensor], list[Tensor]]] = []
    start = watched.weights()
    trainer.add_callback(
        EachStep(lambda _: seen.append((watched.weights(), trainer.ends[ALIGNMENT], trainer.ends[USER])))
    )
    trainer.run()
    w_a = w_f = start
    for step, (weights, aligned, tuned) in enumerate(seen):
        if step % 5 == 1:
            w_a = weights
        elif step % 5 == 4 or step == len(seen) - 1:
            w_f = weights
        assert equal(aligned, w_a), step
        assert equal(tuned, w_f), step
    report = trainer.report(lines_of(watched))
    assert [(s["step"], s["state"]) for s in report["switches"]] == [
        (2, "alignment"), (5, "user"), (7, "alignment"), (10, "user"), (12, "alignment"), (14, "user"),
    ]  # fmt: skip
    assert report["alignment_steps_taken"] == 6
    first, second = report["switches"][:2]
    assert first["anchor_distance"] == pytest.approx(distance(seen[1][0], start), abs=1e-6)
    assert second["anchor_distance"] == pytest.approx(distance(seen[4][0], seen[1][0]), abs=1e-6)
    assert lines_of(watched)[4]["anchor_distance"] == pytest.approx(second["anchor_distance"], abs=1e-6)


@pytest.mark.parametrize("step", [5, 8])
def test_the_proximal_gradient_is_rho_times_the_way_from_the_anchor(build: Build, step: int) -> None:
    rho = 0.7
    gradients, logged = [], 0.0
    for weight in (0.0, rho):
        watched = build(lisa(alignment_steps=2, user_steps=3, rho=weight, warmup_share=0.0))
        trainer = watched.trainer
        generator = torch.Generator().manual_seed(3)
        for parameter in trainer.parameters.values():
            parameter.data.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.1)
        trainer.state.max_steps, trainer.state.global_step = 10, step
        batch = trainer.data_collator(watched.rows.user[:3])
        trainer.training_step(trainer.model, batch, None)
        gradients.append([p.grad.clone() for p in trainer.parameters.values()])
        logged = trainer._proximal
    other = trainer.ends[USER if step == 5 else ALIGNMENT]  # step 5 is one of alignment, step 8 one of the user
    moved = [p.detach().clone().requires_grad_() for p in trainer.parameters.values()]
    proximal = rho / 2 * sum(((w - a) ** 2).sum() for w, a in zip(moved, other, strict=True))
    pulls = torch.autograd.grad(proximal, moved)
    assert logged == pytest.approx(float(proximal.detach()), rel=1e-12)
    for plain, tied, pull, w, anchor in zip(*gradients, pulls, moved, other, strict=True):
        assert torch.equal(tied, plain + rho * (w.detach() - anchor))
        assert torch.allclose(pull, rho * (w.detach() - anchor), rtol=1e-14, atol=0)
        assert pull.abs().max() > 0


def test_the_proximal_gradient_is_zero_at_the_anchor(build: Build) -> None:
    gradients = []
    for rho in (0.0, 1e4):
        watched = build(lisa(rho=rho, warmup_share=0.0))
        trainer = watched.trainer
        trainer.state.max_steps = 10
        trainer.training_step(trainer.model, trainer.data_collator(watched.rows.safe[:3]), None)
        gradients.append([p.grad.clone() for p in trainer.parameters.values()])
    assert equal(*gradients)


def test_micro_batches_get_the_proximal_gradient_once(build: Build) -> None:
    """Steps of 2 x 3 rows end where steps of 6 rows do, and elsewhere without the proximal term."""
    taken = []
    for rho, batch_size, accumulate in ((3.0, 6, 1), (3.0, 3, 2), (0.0, 6, 1)):
        watched = build(
            lisa(alignment_steps=1, user_steps=3, rho=rho, warmup_share=0.0),
            max_steps=3, batch_size=batch_size, gradient_accumulation_steps=accumulate, max_grad_norm=0.0,
        )  # fmt: skip
        watched.trainer.run()
        taken.append(watched.weights())
    assert distance(taken[0], taken[1]) < 1e-12
    assert distance(taken[0], taken[2]) > 1e-3


@pytest.mark.parametrize("rho", [0.0, 5.0])
@pytest.mark.parametrize("settings", [{}, {"gradient_accumulation_steps": 2, "lora_dropout": 0.3}])
def test_without_alignment_steps_it_is_plain_fine_tuning(build: Build, rho: float, settings: dict[str, Any]) -> None:
    runs = []
    for defence in (Defence(), lisa(rho=rho, alignment_steps=0, warmup_share=0.0)):
        runs.append(build(defence, **settings))
        runs[-1].trainer.run()
    assert equal(runs[0].weights(), runs[1].weights())
    assert [line["loss"] for line in lines_of(runs[0])] == [line["loss"] for line in lines_of(runs[1])]


def test_with_equal_rows_and_no_tie_it_is_fine_tuning_in_the_interleaved_order(build: Build) -> None:
    tied = build(lisa(rho=0.0, alignment_steps=2, user_steps=3), identical=True)
    tied.trainer.run()
    steps = tied.course.plan.steps
    assert steps == 8 + 2 * 3
    user, safe, order = iter(tied.course.draws), iter(tied.course.safe), []
    for step in range(steps):
        order += [next(safe if step % 5 < 2 else user) for _ in range(3)]
    plain = build(Defence(), max_steps=steps)
    plain.trainer.train_dataset = order
    plain.trainer.run()
    assert equal(tied.weights(), plain.weights())


def test_a_strong_tie_holds_the_weights_at_the_anchor(build: Build) -> None:
    """Plain gradient steps with learning rate * rho < 1: the distance falls as 1 / rho."""
    distances = []
    for rho in (1.0, 100.0, 10_000.0):
        watched = build(
            lisa(rho=rho, alignment_steps=10, user_steps=10, warmup_share=0.0),
            max_steps=10, learning_rate=0.9e-4, schedule="constant", warmup_ratio=0.0, max_grad_norm=0.0,
        )  # fmt: skip
        trainer = watched.trainer
        trainer.optimizer = torch.optim.SGD(list(trainer.parameters.values()), lr=0.9e-4)
        trainer.run()
        distances.append([switch["anchor_distance"] for switch in trainer.switches])
    for weak, middle, strong in zip(*distances, strict=True):
        assert weak > middle > strong
        assert strong < weak / 5


def test_a_growing_tie_leaves_no_way_from_the_anchor(build: Build) -> None:
    """Plain gradient steps with learning rate * rho = 1/2: a state ends within about |gradient| / rho of its anchor.

    Smaller steps alone go less far, too: at one learning rate, ten steps of one gradient g go ten times rate * g
    without the tie and twice that with it.
    """

    def travelled(rho: float, tie: float) -> list[float]:
        rate = 0.5 / rho
        watched = build(
            lisa(rho=tie, alignment_steps=10, user_steps=10, warmup_share=0.0),
            max_steps=10, learning_rate=rate, schedule="constant", warmup_ratio=0.0, max_grad_norm=0.0,
        )  # fmt: skip
        trainer, start = watched.trainer, watched.weights()
        trainer.optimizer = torch.optim.SGD(list(trainer.parameters.values()), lr=rate)
        trainer.run()
        aligned, tuned = trainer.ends[ALIGNMENT], trainer.ends[USER]
        return [distance(aligned, start), distance(tuned, aligned)]

    ways = [travelled(rho, tie=rho) for rho in (1.0, 100.0, 10_000.0)]
    for weak, middle, strong in zip(*ways, strict=True):
        assert weak > 10 * middle > 100 * strong > 0
    for tied, free in zip(ways[-1], travelled(10_000.0, tie=0.0), strict=True):
        assert tied < free / 4


def test_before_the_warm_up_mark_there_is_no_proximal_term(build: Build) -> None:
    runs = [
        build(lisa(rho=rho, alignment_steps=2, user_steps=2, warmup_share=0.5), schedule="constant")
        for rho in (0.0, 50.0)
    ]
    for run in runs:
        run.trainer.run()
    free, tied = (lines_of(run) for run in runs)
    total = runs[0].course.plan.steps
    # The first step of a state begins at its anchor.
    assert [line["proximal"] > 0 for line in tied] == [step >= total / 2 and step % 2 == 1 for step in range(total)]
    same = [a["loss"] == b["loss"] for a, b in zip(free, tied, strict=True)]
    assert all(same[: total // 2 + 2])  # the loss of a step is that of the weights before it
    assert not any(same[total // 2 + 2 :])


def test_the_user_state_has_as_many_steps_as_plain_fine_tuning(build: Build) -> None:
    plain, tied = build(Defence()), build(lisa(alignment_steps=1, user_steps=3))
    assert plain.course.plan.steps == 8
    assert tied.course.plan.steps == 8 + 3
    assert [plain.course.draws.row_at(i) for i in range(24)] == [tied.course.draws.row_at(i) for i in range(24)]
