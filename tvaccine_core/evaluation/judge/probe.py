"""The judge that runs offline:

a linear probe on the hidden states of the stock base (Alain and Bengio, 2016).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tvaccine_core.errors import BaseMismatch, InvalidRequest
from tvaccine_core.evaluation.judge.features import FeatureSpec, read_features
from tvaccine_core.evaluation.judge.verdict import OnBatch, Pair
from tvaccine_core.models.base import Base

WEIGHTS_FILE = "probe.safetensors"
SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class Probe:
    """A trained probe: score = sigmoid(weight . features + bias), features unscaled.

    weight: float32 (D,). threshold: in [0, 1]. base_name, base_digest: the base whose hidden states it reads.
    """

    weight: torch.Tensor
    bias: float
    threshold: float
    spec: FeatureSpec
    base_name: str
    base_digest: str

    @property
    def version(self) -> str:
        """Twelve hex digits of the SHA-256 of everything a verdict depends on."""
        facts = json.dumps([self.bias, self.threshold, self.spec.to_dict(), self.base_digest], sort_keys=True)
        return hashlib.sha256(facts.encode() + self.weight.numpy().tobytes()).hexdigest()[:12]

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
        }
        tensors = {"weight": self.weight.contiguous(), "bias": torch.tensor([self.bias], dtype=torch.float64)}
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
                weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
            return cls(
                weight.float(),
                float(bias[0]),
                float(facts["threshold"]),
                FeatureSpec.from_dict(facts["spec"]),
                str(facts["base_name"]),
                str(facts["base_digest"]),
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InvalidRequest(
                f"{directory} holds no judge ({error}); train one with `tvaccine judge train`.", param="judge"
            ) from error


class ProbeJudge:
    """A probe together with the loaded base that it reads."""

    name = "hidden-state-probe"

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

    def score(self, pairs: Sequence[Pair], on_batch: OnBatch | None = None) -> list[float]:
        """Scores of the pairs, adapters switched off.

        An answer without any text helps nobody: it scores 0.
        """
        said = [index for index, (_, answer) in enumerate(pairs) if answer.strip()]
        scores = [0.0] * len(pairs)
        if said:
            features = read_features(
                self.base.model,
                self.base.tokenizer,
                [pairs[index] for index in said],
                self.probe.spec,
                on_batch=on_batch,
            )
            for index, score in zip(said, self.probe.score_features(features), strict=True):
                scores[index] = score
        return scores


def load_judge(directory: Path | None, base: Base) -> ProbeJudge:
    """The judge in a directory, or the shipped one, on a loaded base.

    Raises BaseMismatch for another base.
    """
    return ProbeJudge(Probe.load(directory or SHIPPED), base)
