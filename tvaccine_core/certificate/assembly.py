"""From what was measured to the document. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvaccine_core.certificate.config import CertificateConfig
from tvaccine_core.certificate.document import SCHEMA_NAME, Certificate, Measured, parse_certificate
from tvaccine_core.certificate.parts import Part
from tvaccine_core.certificate.verdict import all_checks, verdict


def make_certificate(
    config: CertificateConfig, figures: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]
) -> Certificate:
    """The document. figures: what was measured, by the parts' names. facts: its other fields."""
    measured = {name: Measured.model_validate(values) for name, values in figures.items()}
    clean = Part(vaccinated=True).name
    after = {one.label: measured[Part(vaccinated=True, attack=one).name] for one in config.attacks}
    checks = all_checks(config, measured[clean], after)
    decision, reason = verdict(checks)
    attacks = [
        {
            "label": one.label,
            "settings": one.to_dict(),
            "limit": config.limit_of(one),
            "vaccinated": after[one.label],
            "stock": measured.get(Part(vaccinated=False, attack=one).name),
        }
        for one in config.attacks
    ]
    return parse_certificate(
        {
            **facts,
            "schema": SCHEMA_NAME,
            "verdict": decision,
            "reason": reason,
            "checks": checks,
            "clean": measured[clean],
            "stock": measured.get(Part(vaccinated=False).name),
            "attacks": attacks,
            "judge": figures[clean]["judge"],
            "seconds": round(sum(one.seconds for one in measured.values()), 3),
        }
    )
