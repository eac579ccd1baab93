"""The models that a certificate measures, each a part of the run. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from tvaccine_core.certificate.config import ATTACKED, OFF, CertificateConfig, SimulatedAttack


@dataclass(frozen=True)
class Part:
    """A model to measure: with the vaccine or the base without it, attacked or as it is."""

    vaccinated: bool
    attack: SimulatedAttack | None = None

    @property
    def name(self) -> str:
        """The name of its directory."""
        return f"{'vaccinated' if self.vaccinated else 'stock'}-{self.attack.label if self.attack else 'clean'}"


def parts_of(config: CertificateConfig) -> list[Part]:
    """All parts of a certificate, in their order."""
    parts = [Part(True), *(Part(True, attack) for attack in config.attacks)]
    if config.stock != OFF:
        parts.append(Part(False))
    if config.stock == ATTACKED:
        parts += [Part(False, attack) for attack in config.attacks]
    return parts
