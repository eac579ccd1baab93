"""Lisa, lazy safety alignment (Huang et al., arXiv 2405.18641): fine-tuning in two states tied to each other.

Alignment state: K1 steps on the provider's safe rows with the loss f(w) + rho/2 ||w - w_F||^2; then w_A := w.
User state: K2 steps on the user's rows with the loss h(w) + rho/2 ||w - w_A||^2; then w_F := w, and again.
w are the tensors of the user adapter, w_A and w_F the weights at the end of the last state of either kind, both the
starting weights at first. Weights and optimizer state are carried over at a switch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from tvaccine_core.alignment.adapter_weights import add_gradients, global_norm, snapshot
from tvaccine_core.data.tokenise import Example
from tvaccine_core.finetuning.defended_trainer import DefendedTrainer
from tvaccine_core.finetuning.lisa_config import LisaConfig
from tvaccine_core.training.order import ShuffledPasses

ALIGNMENT, USER = "alignment", "user"


class BiStateRows(Dataset[Example]):
    """The rows of a run in the order of its steps: safe rows in alignment steps, the user's in the others.

    No row of the user is drawn, let alone lost, in an alignment step. rows_per_step: rows of one optimizer step.
    """

    def __init__(
        self,
        user: ShuffledPasses[Example],
        safe: ShuffledPasses[Example] | None,
        config: LisaConfig,
        rows_per_step: int,
    ) -> None:
        self._user, self._safe = user, safe
        self._config = config
        self._rows_per_step = rows_per_step

    def __len__(self) -> int:
        return len(self._user) + (0 if self._safe is None else len(self._safe))

    def __getitem__(self, place: int) -> Example:
        step, offset = divmod(place, self._rows_per_step)
        drawn = self._config.state_step(step) * self._rows_per_step + offset
        return self.safe[drawn] if self._config.in_alignment(step) else self._user[drawn]

    @property
    def safe(self) -> ShuffledPasses[Example]:
        """The draws of alignment steps. Raises ValueError if there are none."""
        if self._safe is None:
            raise ValueError("an alignment step came up, but there are no safe rows")
        return self._safe


class LisaTrainer(DefendedTrainer):
    """Adds the gradient rho (w - anchor) in every step that has a proximal term, and moves the anchors.

    The logged loss is that of the rows alone; the proximal term stands beside it.
    """

    def __init__(self, *, config: LisaConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.ends: dict[str, list[Tensor]] = {state: snapshot(self.parameters.values()) for state in (ALIGNMENT, USER)}
        self.switches: list[dict[str, Any]] = []
        self._proximal = 0.0
        self._distance = 0.0

    def add_defence_gradient(self) -> None:
        """The proximal gradient, tensor by tensor; A and B of an adapter count as they are, not as their product."""
        self._proximal = 0.0
        step = self.state.global_step
        if not self.config.is_tied(step, self.state.max_steps):
            return
        away = self._away_from_anchor(step)
        add_gradients(self.parameters.values(), [self.config.rho * tensor for tensor in away])
        self._proximal = self.config.rho / 2 * float(global_norm(away)) ** 2

    def leave_step(self) -> None:
        """Measures how far this step left the weights from the other state, and switches if the state ends here."""
        step = self.state.global_step - 1
        self._distance = float(global_norm(self._away_from_anchor(step)))
        last = self.state.global_step >= self.state.max_steps
        if self.config.switches_after(step) or last:
            state = self._state_of(step)
            self.switches.append(
                {"step": self.state.global_step, "state": state, "anchor_distance": round(self._distance, 6)}
            )
            self.ends[state] = snapshot(self.parameters.values())

    def step_metrics(self) -> dict[str, float]:
        """Whether the step was one of alignment, its proximal term, and ||w - anchor|| after it."""
        aligned = self.config.in_alignment(self.state.global_step - 1)
        return {
            "alignment_state": float(aligned),
            "proximal": self._proximal,
            "anchor_distance": self._distance,
        }

    def report(self, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """||w - anchor|| at the end of every state, and the mean loss of the alignment steps."""
        losses = [line["loss"] for line in lines if line.get("alignment_state")]
        mean = sum(losses) / len(losses) if losses else None
        return {"switches": self.switches, "alignment_steps_taken": len(losses), "alignment_loss": mean}

    def defence_state(self) -> tuple[dict[str, Any], dict[str, list[Tensor]]]:
        """The ends of both states and the switches so far; the clock is the step."""
        return {"switches": self.switches}, dict(self.ends)

    def restore_defence_state(self, values: dict[str, Any], tensors: dict[str, list[Tensor]]) -> None:
        """See DefendedTrainer."""
        self.switches = list(values["switches"])
        self.ends = dict(tensors)

    def _state_of(self, step: int) -> str:
        return ALIGNMENT if self.config.in_alignment(step) else USER

    def _away_from_anchor(self, step: int) -> list[Tensor]:
        """w - anchor; the anchor of a step is where the other state ended last."""
        anchor = self.ends[USER if self._state_of(step) == ALIGNMENT else ALIGNMENT]
        return [parameter.detach() - end for parameter, end in zip(self.parameters.values(), anchor, strict=True)]
