"""The judge that runs offline: a linear head on hidden states of the stock base.

As they are (a linear probe, Alain and Bengio, 2016), or, as in the shipped judge, with low-rank updates (Hu et al.,
2021) that were trained with the head and that the base carries only while it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tvaccine_core.errors import BaseMismatch, InvalidRequest
from tvaccine_core.evaluation.judge.categories import CategoryHead
from tvaccine_core.evaluation.judge.features import FeatureSpec, read_features
from tvaccine_core.evaluation.judge.low_rank import LowRankUpdates
from tvaccine_core.evaluation.judge.verdict import Assessment, OnBatch, Pair
from tvaccine_core.models.base import Base

WEIGHTS_FILE = "probe.safetensors"
SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class Probe:
    """A trained probe: score = sigmoid(weight . features + bias), features unscaled.

    weight: float32 (D,). threshold: in [0, 1]. base_name, base_digest: the base whose hidden states it reads.
    updates: low-rank updates that the base carries while it reads; None: it reads as it is. categories: tells
    kinds of harm apart; None: it cannot.
    """

    weight: torch.Tensor
    bias: float
    threshold: float
    spec: FeatureSpec
    base_name: str
    base_digest: str
    updates: LowRankUpdates | None = None
    categories: CategoryHead | None = None

    @property
    def version(self) -> str:
        """Twelve hex digits of the SHA-256 of everything a verdict depends on."""
        facts = json.dumps([self.bias, self.threshold, self.spec.to_dict(), self.base_digest], sort_keys=True)
        digest = hashlib.sha256(facts.encode() + self.weight.numpy().tobytes())
        for name, tensor in sorted((self._update_tensors() | self._category_tensors()).items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()[:12]

    def _category_tensors(self) -> dict[str, torch.Tensor]:
        if self.categories is None:
            return {}
        return {"category_weight": self.categories.weight, "category_bias": self.categories.bias}

    def _update_tensors(self) -> dict[str, torch.Tensor]:
        return {} if self.updates is None else self.updates.tensors()

    def score_features(self, features: torch.Tensor) -> list[float]:
        """Scores in [0, 1] of features (N, D)."""
        return torch.sigmoid(features.double() @ self.weight.double() + self.bias).tolist()

    def score_array(self, features: np.ndarray) -> list[float]:
        """`score_features` of a NumPy array."""
        return self.score_features(torch.from_numpy(features))

    def save(self, directory: Path) -> None:
        """Write probe.safetensors; everything but the weights stands in its metadata."""
        directory.mkdir(parents=True, exist_ok=True)
        facts = {
            "threshold": self.threshold,
            "spec": self.spec.to_dict(),
            "base_name": self.base_name,
            "base_digest": self.base_digest,
            "categories": [] if self.categories is None else list(self.categories.names),
            "updated_layers": [] if self.updates is None else list(self.updates.layers),
        }
        tensors = {"weight": self.weight.contiguous(), "bias": torch.tensor([self.bias], dtype=torch.float64)}
        tensors |= self._update_tensors() | self._category_tensors()
        metadata = {"tvaccine_probe": json.dumps(facts), "version": self.version}
        save_file(tensors, directory / WEIGHTS_FILE, metadata=metadata)
        # safetensors makes files that only their owner can read; a judge is shared.
        (directory / WEIGHTS_FILE).chmod(0o644)

    @classmethod
    def load(cls, directory: Path) -> Probe:
        """Read what `save` wrote. Raises InvalidRequest when there is no probe in the directory."""
        path = directory / WEIGHTS_FILE
        try:
            with safe_open(path, framework="pt") as file:
                facts: dict[str, Any] = json.loads(file.metadata()["tvaccine_probe"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            weight, bias = tensors.pop("weight"), tensors.pop("bias")
            layers = facts.get("updated_layers", [])
            names = tuple(map(str, facts.get("categories", ())))
            heads = tensors.pop("category_weight", None), tensors.pop("category_bias", None)
            return cls(
                weight.float(),
                float(bias[0]),
                float(facts["threshold"]),
                FeatureSpec.from_dict(facts["spec"]),
                str(facts["base_name"]),
                str(facts["base_digest"]),
                LowRankUpdates.from_tensors(layers, tensors) if layers else None,
                CategoryHead(names, *heads) if names else None,
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InvalidRequest(
                f"{directory} holds no judge ({error}); train one with `tvaccine judge train`.", param="judge"
            ) from error


class ProbeJudge:
    """A probe together with the loaded base that it reads."""

    name = "embedded"
    languages: frozenset[str] | None = frozenset({"en"})

    def __init__(self, probe: Probe, base: Base) -> None:
        if probe.base_digest != base.digest:
            raise BaseMismatch(
                f"This judge reads hidden states of {probe.base_name} ({probe.base_digest}), not of {base.name} "
                f"({base.digest}); train one for it with `tvaccine judge train --base {base.name}`."
            )
        self.probe = probe
        self.base = base

    @property
    def version(self) -> str:
        """See Probe.version."""
        return self.probe.version

    @property
    def threshold(self) -> float:
        """The threshold calibrated at training time."""
        return self.probe.threshold

    def assess(self, pairs: Sequence[Pair], on_batch: OnBatch | None = None) -> list[Assessment]:
        """See `Judge.assess`. Adapters are switched off.

        An answer without any text helps nobody: it scores 0. A category's score is the score times the
        category's share of it.
        """
        said = [index for index, (_, answer) in enumerate(pairs) if answer.strip()]
        found = [Assessment(0.0) for _ in pairs]
        if said:
            features = self.read([pairs[index] for index in said], on_batch)
            head = self.probe.categories
            shares = head.shares(features) if head else [{} for _ in said]
            for index, score, share in zip(said, self.probe.score_features(features), shares, strict=True):
                found[index] = Assessment(score, {name: score * part for name, part in share.items()})
        return found

    def score(self, pairs: Sequence[Pair], on_batch: OnBatch | None = None) -> list[float]:
        """The overall scores of `assess`."""
        return [one.score for one in self.assess(pairs, on_batch)]

    def read(self, pairs: Sequence[Pair], on_batch: OnBatch | None = None) -> torch.Tensor:
        """Features (N, D) of the pairs, with this judge's own updates."""
        model, tokenizer = self.base.model, self.base.tokenizer
        with self.probe.updates.on(model) if self.probe.updates else nullcontext():
            return read_features(model, tokenizer, pairs, self.probe.spec, on_batch=on_batch)
