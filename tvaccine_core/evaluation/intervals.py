"""Confidence intervals of a share."""

from __future__ import annotations

from math import sqrt

Z95 = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""


def wilson(k: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of k successes in n trials, both ends in [0, 1] (Wilson, JASA 22, 1927).

    (k + z²/2 ∓ z·sqrt(k(n - k)/n + z²/4)) / (n + z²). It stays inside [0, 1] and keeps its coverage for few
    trials and for shares near 0, where the usual normal interval collapses to a point. No trials: (0, 1),
    nothing is known. Raises ValueError unless 0 <= k <= n and z > 0.
    """
    if not 0 <= k <= n or z <= 0:
        raise ValueError(f"need 0 <= k <= n and z > 0, got k={k}, n={n}, z={z}")
    if n == 0:
        return 0.0, 1.0
    square = z * z
    centre = k + square / 2
    half = z * sqrt(k * (n - k) / n + square / 4)
    low = 0.0 if k == 0 else (centre - half) / (n + square)
    high = 1.0 if k == n else (centre + half) / (n + square)
    return max(0.0, low), min(1.0, high)
