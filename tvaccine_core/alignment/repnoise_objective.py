"""The terms of the RepNoise loss for one batch and one model; their mathematics is in `repnoise`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tvaccine_core.alignment.batch import IGNORED
from tvaccine_core.alignment.repnoise import defence_loss, harmful_term, noise_term, unsilenced
from tvaccine_core.alignment.repnoise_config import RepNoiseConfig
from tvaccine_core.alignment.repnoise_depths import DepthReader
from tvaccine_core.alignment.scheme import Inputs
from tvaccine_core.alignment.supervision import supervised_tokens
from tvaccine_core.models.layers import Layers
from tvaccine_core.training.loss import answer_loss


@dataclass(frozen=True)
class Defence:
    """L_noise, L_harm and beta * L_noise - alpha * log(L_harm), scalars."""

    noise: Tensor
    harmful: Tensor
    loss: Tensor


class RepNoiseObjective:
    """Computes both parts of the loss, apart, so that their graphs need not be alive at once. `close` when done.

    Labels of the batches are masked already: -100 where the two answers of a pair agree.
    """

    def __init__(self, model: nn.Module, layers: Layers, config: RepNoiseConfig) -> None:
        self._model = model
        self._config = config
        self._reader = DepthReader(model, layers)
        self._log_vocabulary = math.log(model.config.get_text_config().vocab_size)  # type: ignore[operator,union-attr]

    def close(self) -> None:
        """Give the model back as it was."""
        self._reader.close()

    def stability(self, inputs: Inputs, pairs: int) -> Tensor | None:
        """L_safe of {input_ids, attention_mask, labels}, (B', T); None if nothing is to be learned.

        pairs: the first so many rows belong to pairs, the others are plain rows.
        """
        labels = inputs["labels"]
        count = supervised_tokens(labels)
        if self._config.masking == "published":
            labels = labels.clone()
            labels[:pairs] = unsilenced(labels[:pairs])
        kept = supervised_tokens(labels)
        if kept == 0:
            return None
        return answer_loss(self._model, {**inputs, "labels": labels}, count=count) + self._blanked(count - kept, count)

    def defence(self, inputs: Inputs, seed: int) -> Defence | None:
        """The terms of harmful answers {input_ids, attention_mask, labels}, (B, T); None if no token differs.

        seed: of the noise, which leaves the global generator alone.
        """
        labels = inputs["labels"]
        count = supervised_tokens(labels)
        if count == 0:
            return None
        depths = self._reader.read(inputs)
        mask = labels != IGNORED
        tokens = mask.reshape(-1).nonzero().squeeze(1)
        generator = torch.Generator(mask.device).manual_seed(seed)
        noise = noise_term([values.reshape(-1, values.shape[-1])[tokens] for values in depths.mlp], mask, generator)
        trained = unsilenced(labels) if self._config.masking == "published" else labels
        following = functional.pad(trained[:, 1:], (0, 1), value=IGNORED).reshape(-1)
        positions = (following != IGNORED).nonzero().squeeze(1)
        blanked = self._blanked(count - positions.numel(), count)
        entropies = [
            self._reader.cross_entropy(hidden, positions, following[positions], count) + blanked
            for hidden in depths.hidden
        ]
        harmful = harmful_term(entropies)
        loss = defence_loss(noise, harmful, self._config.alpha, self._config.beta)
        return Defence(noise.detach(), harmful.detach(), loss)

    def _blanked(self, tokens: int, count: int) -> float:
        """What `tokens` predictions from blanked logits add to a mean over `count`: ln V each."""
        return self._log_vocabulary * tokens / count
