"""The settings of Lisa, and its clock: which optimizer step belongs to which state. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvaccine_core.alignment.settings import number, whole
from tvaccine_core.finetuning.checked_settings import CheckedSettings


@dataclass(frozen=True, kw_only=True)
class LisaConfig(CheckedSettings):
    """Lazy safety alignment (Huang et al., arXiv 2405.18641): two states that are tied to each other.

    rho: weight of the proximal term rho/2 ||w - anchor||^2, 0..10000. It acts through AdamW, so that its strength is
        not learning rate times rho: tune it. 1 in the method's own scripts, 0.01 where others compare with it.
    alignment_steps (K1): optimizer steps on the provider's safe rows in a cycle, 0..1000000; 0 is plain fine-tuning.
    user_steps (K2): optimizer steps on the user's rows in a cycle, 1..1000000. Published: 100 and 900 in a run of
        20000 steps; the defaults keep the ratio in a run of tens.
    warmup_share: share of all steps, from the start, without the proximal term, 0..1.
    """

    name: ClassVar[str] = "lisa"
    subject: ClassVar[str] = "lisa"

    rho: float = number(1.0, 0.0, 1e4)
    alignment_steps: int = whole(2, 0, 10**6)
    user_steps: int = whole(18, 1, 10**6)
    warmup_share: float = number(0.1, 0.0, 1.0)

    @property
    def needs_safe_rows(self) -> bool:
        """Whether the run opens the provider's safe rows."""
        return self.alignment_steps > 0

    def total_steps(self, user_steps: int) -> int:
        """Optimizer steps of a run that takes `user_steps` on the user's rows; it starts with alignment steps if any,
        and ends with user steps."""
        return user_steps + self.alignment_steps * -(-user_steps // self.user_steps)

    def in_alignment(self, step: int) -> bool:
        """Whether optimizer step `step` (from 0) belongs to the alignment state."""
        return step % (self.alignment_steps + self.user_steps) < self.alignment_steps

    def state_step(self, step: int) -> int:
        """How many steps of the same state came before step `step`."""
        turn, offset = divmod(step, self.alignment_steps + self.user_steps)
        if offset < self.alignment_steps:
            return turn * self.alignment_steps + offset
        return turn * self.user_steps + offset - self.alignment_steps

    def switches_after(self, step: int) -> bool:
        """Whether step `step` is the last of its state."""
        return self.in_alignment(step) != self.in_alignment(step + 1)

    def is_tied(self, step: int, total: int) -> bool:
        """Whether step `step` of `total` has the proximal term. Without alignment steps no state is there to stay
        near to."""
        return self.needs_safe_rows and self.rho > 0 and step >= self.warmup_share * total
