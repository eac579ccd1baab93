"""Low-rank training of the base that the probe reads, together with the probe: the embedded judge.

It starts as the probe (the updates begin at zero), so that training can only move away from it where the labelled rows
say so. The layers up to the first one that is read stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional

from tvaccine_core.evaluation.judge.features import Reading, pooled_batch, render, stock
from tvaccine_core.evaluation.judge.folds import best_score_threshold, log_odds, prompt_folds
from tvaccine_core.evaluation.judge.low_rank import LowRankUpdates
from tvaccine_core.evaluation.judge.probe import Probe, ProbeJudge
from tvaccine_core.evaluation.judge.rows import JudgeRow, row_weights
from tvaccine_core.evaluation.judge.training import Fit, fit_logistic
from tvaccine_core.evaluation.judge.tuning_checkpoint import TuningCheckpoint
from tvaccine_core.evaluation.judge.tuning_config import TuningConfig
from tvaccine_core.models.base import Base

HELD_OUT = 10
"""One prompt in ten is left out of tuning, to calibrate on."""
BUCKET = 16
"""Batches sorted by length together: less padding, and still a random order."""

Log = Callable[[str], None]


class _Standardised(nn.Module):
    """The probe's weights for features of mean 0 and deviation 1, which a step size fits far better."""

    def __init__(self, probe: Probe, features: np.ndarray) -> None:
        super().__init__()
        mean = torch.from_numpy(features.mean(0, dtype=np.float64))
        scale = torch.from_numpy(features.std(0, dtype=np.float64) + 1e-4)
        self.mean, self.scale = mean.float(), scale.float()
        self.weight = nn.Parameter((probe.weight.double() * scale).float())
        self.bias = nn.Parameter((probe.bias + mean @ probe.weight.double()).float().reshape(1))

    def forward(self, features: Tensor) -> Tensor:
        return ((features - self.mean) / self.scale) @ self.weight + self.bias

    def folded(self) -> tuple[Tensor, float]:
        """Weight and bias for features as they are."""
        weight = self.weight.detach().double() / self.scale.double()
        return weight.float(), float(self.bias.detach().double() - self.mean.double() @ weight)


def tune_judge(
    base: Base,
    fit: Fit,
    features: np.ndarray,
    rows: Sequence[JudgeRow],
    config: TuningConfig,
    scratch: Path,
    log: Log = lambda _text: None,
) -> Probe:
    """Tune on nine tenths of the prompts and calibrate on the rest.

    The probe it starts from does not see the rows left out either. On these, score and threshold are set anew:
    the logit is stretched and shifted to the most likely values (Platt scaling), and the threshold has the best
    balanced accuracy.
    """
    seen, left_out = next(iter(prompt_folds(rows, HELD_OUT)))
    train, held = [rows[i] for i in seen], [rows[i] for i in left_out]
    labels = np.array([row.label for row in train])
    weight, bias = fit_logistic(features[seen], labels, row_weights(train), fit.strength)
    start = replace(fit.probe, weight=torch.tensor(weight, dtype=torch.float32), bias=bias)
    tuned = tune_probe(base, start, features[seen], train, config, scratch, log)
    log(f"Calibrating on {len(held)} rows left out.")
    scores = ProbeJudge(tuned, base).score([row.pair for row in held])
    return _calibrated(tuned, np.array(scores), held)


def _calibrated(probe: Probe, scores: np.ndarray, held: Sequence[JudgeRow]) -> Probe:
    labels, weights = np.array([row.label for row in held]), row_weights(held)
    if len(set(labels.tolist())) != 2:
        return probe
    logits = log_odds(scores)
    platt = LogisticRegression(C=1e4).fit(logits[:, None], labels, sample_weight=weights)
    slope, shift = float(platt.coef_[0, 0]), float(platt.intercept_[0])
    threshold = best_score_threshold(held, slope * logits + shift)
    return replace(probe, weight=probe.weight * slope, bias=probe.bias * slope + shift, threshold=threshold)


def tune_probe(
    base: Base,
    probe: Probe,
    features: np.ndarray,
    rows: Sequence[JudgeRow],
    config: TuningConfig,
    scratch: Path,
    log: Log = lambda _text: None,
) -> Probe:
    """Train updates and weights on the rows, from a probe fitted to the rows' features (N, D).

    The loss is binary cross-entropy, every label weighing half of it. Resumes from scratch/tuning.pt when that
    belongs to the same rows and settings. The threshold returned is the probe's: calibrate it on rows left out.
    """
    first, last = min(probe.spec.layers), max(probe.spec.layers)
    updates = LowRankUpdates(base.model, range(first + 1, last + 1), config.rank, config.seed)
    head = _Standardised(probe, features)
    readings = [render(base.tokenizer, row.pair, probe.spec) for row in rows]
    batches = list(_batches([len(reading.ids) for reading in readings], config))
    optimizer = torch.optim.AdamW(
        [
            {"params": list(updates.parameters()), "lr": config.learning_rate},
            {"params": list(head.parameters()), "lr": config.head_learning_rate, "weight_decay": 0.0},
        ],
        weight_decay=config.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _pace(step, len(batches)))
    state = TuningCheckpoint(scratch, _fingerprint(base, rows, config), updates, head, optimizer, schedule)
    masses, labels = _masses(rows), torch.tensor([float(row.label) for row in rows])
    start, running = state.restore(), 0.0
    with _frozen(base.model), stock(base.model), updates.on(base.model):
        for step, members in enumerate(batches[start:], start + 1):
            loss = _loss(base, head, [readings[i] for i in members], labels[members], masses[members], probe, config)
            loss.backward()
            nn.utils.clip_grad_norm_([*updates.parameters(), *head.parameters()], 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            running += (loss.item() - running) / min(50, step - start)
            if step % config.save_every == 0 or step == len(batches):
                state.save(step)
                log(f"Step {step} of {len(batches)}, loss {running:.4f}.")
    weight, bias = head.folded()
    # As a file holds them, in float16: what is calibrated is what will be loaded.
    stored = LowRankUpdates.from_tensors(updates.layers, updates.tensors())
    return replace(probe, weight=weight, bias=bias, updates=stored)


def _loss(
    base: Base,
    head: _Standardised,
    readings: Sequence[Reading],
    labels: Tensor,
    masses: Tensor,
    probe: Probe,
    config: TuningConfig,
) -> Tensor:
    device = base.model.device
    with torch.autocast(device.type, torch.bfloat16, enabled=config.autocast):
        features = pooled_batch(base.model, readings, probe.spec)
    logits = head(features.float())
    return (functional.binary_cross_entropy_with_logits(logits, labels, reduction="none") * masses).mean()


def _masses(rows: Sequence[JudgeRow]) -> Tensor:
    """Weight of each row, mean 1, both labels alike."""
    weights = row_weights(rows)
    labels = np.array([row.label for row in rows])
    for label in (0, 1):
        weights[labels == label] /= 2 * weights[labels == label].sum()
    return torch.from_numpy(weights * len(rows)).float()


def _batches(lengths: Sequence[int], config: TuningConfig) -> Iterator[list[int]]:
    """Members of every batch of the whole training, in order; the same for the same seed."""
    draw = np.random.default_rng(config.seed)
    for _ in range(config.epochs):
        order = draw.permutation(len(lengths))
        found: list[list[int]] = []
        for start in range(0, len(order), BUCKET * config.batch_size):
            near = sorted(order[start : start + BUCKET * config.batch_size].tolist(), key=lambda i: lengths[i])
            found += [near[i : i + config.batch_size] for i in range(0, len(near), config.batch_size)]
        yield from (found[i] for i in draw.permutation(len(found)))


def _pace(step: int, total: int) -> float:
    warm = max(1, math.ceil(0.05 * total))
    return min((step + 1) / warm, max(0.0, (total - step) / total))


@contextmanager
def _frozen(model: Any) -> Iterator[None]:
    """Context without gradients for the base's own parameters; they are as they were afterwards."""
    before, training = [parameter.requires_grad for parameter in model.parameters()], model.training
    model.requires_grad_(False)
    model.eval()
    try:
        yield
    finally:
        for parameter, wanted in zip(model.parameters(), before, strict=True):
            parameter.requires_grad_(wanted)
        model.train(training)


def _fingerprint(base: Base, rows: Sequence[JudgeRow], config: TuningConfig) -> str:
    """Names a training: a checkpoint of another one is not resumed."""
    facts = json.dumps([base.digest, config.to_dict(), [[*row.pair, row.label, row.source] for row in rows]])
    return hashlib.sha256(facts.encode()).hexdigest()
