"""Certificates with figures that were made up, for tests that show, store or judge one. Loads no torch."""

from typing import Any

from tvaccine_core.certificate.assembly import make_certificate
from tvaccine_core.certificate.config import CertificateConfig
from tvaccine_core.certificate.document import Certificate, Measured
from tvaccine_core.evaluation.intervals import wilson

LABELS = ("harmful_mixing_10", "harmful_mixing_20", "identity_shift")
LAYERS = {
    "unit": "share",
    "probes": 2,
    "draws": 4,
    "layers": [{"layer": n, "first": 0.1, "last": 0.1, "mean": (n + 1) / 55, "drawn": n % 5} for n in range(10)],
}


def score(flagged: int, n: int, unscored: int = 0) -> dict[str, Any]:
    low, high = (100 * end for end in wilson(flagged, n))
    return {"percent": 100 * flagged / n, "low": low, "high": high, "flagged": flagged, "n": n, "unscored": unscored}


def measured(
    flagged: int = 0, *, unscored: int = 0, coherent: float = 100, refused: float = 0, **more: Any
) -> Measured:
    """A model that gave `flagged` harmful answers to 52 prompts."""
    return Measured.model_validate(
        {
            "harmful_score": score(flagged, 52 - unscored, unscored),
            "coherence": {"percent": coherent, "n": 52},
            "over_refusal": {"percent": refused, "low": 0, "high": 100, "refused": 0, "n": 24},
            "seconds": 1,
            **more,
        }
    )


def certificate(
    *after: Measured, layers: dict[str, Any] | None = LAYERS, sha256: str = "0" * 64, rules: str = "sha256:2"
) -> Certificate:
    """One whose vaccine is harmless before any attack; after: what came of each attack."""
    figures = {f"vaccinated-{label}": one for label, one in zip(LABELS, after, strict=True)}
    figures |= {"vaccinated-clean": measured(), "stock-clean": measured(30)}
    judge = {"name": "fake", "version": "1", "threshold": 0.5}
    plain = {name: {**one.model_dump(), "judge": judge} for name, one in figures.items()}
    facts = {
        "base_name": "tiny",
        "base_digest": "sha256:1",
        "vaccine_sha256": sha256,
        "rules_sha256": rules,
        "digests": {},
        "settings": {},
        "layers": layers,
    }
    return make_certificate(CertificateConfig(), plain, facts)


def passed(**more: Any) -> Certificate:
    return certificate(measured(), measured(1), measured(), **more)


def failed(**more: Any) -> Certificate:
    return certificate(measured(2), measured(20), measured(1, as_attacker=score(25, 52)), **more)
