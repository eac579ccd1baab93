"""The mathematics of Representation Noising (arXiv 2405.14577): noise, ascent and stability.

With pairs of a harmful answer x^h and a safe answer x^s to the same prompt, M the tokens in which they differ, m_i the
MLP output of layer i = 1..L and H_j the hidden states, H_0 the embeddings and H_L what the last layer returns:

    loss    = L_safe + beta * L_noise - alpha * log(L_harm)
    L_noise = mean over i of MMD^2(m_i on M, standard normal noise on M)
    L_harm  = 1 + mean over j = 0..L of CE(head(norm(H_j)), x^h on M)
    L_safe  = CE(logits, x^s on M)

CE is the mean over the masked tokens. j = L is the model's own prediction, which the published code counts twice, once
with a second final norm. All functions are pure; float64 stays float64, lower precisions are worked on in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tvaccine_core.alignment.batch import IGNORED

_KERNELS = 5


def squared_distances(points: Tensor) -> Tensor:
    """(n, m) -> (n, n), the squared Euclidean distance of every two rows."""
    products = points @ points.T
    squares = products.diagonal()
    return (squares[:, None] + squares[None, :] - 2 * products).clamp_min(0.0)


def bandwidth(distances: Tensor) -> Tensor:
    """b = sum(D) / (n^2 - n) for squared distances D, (n, n), n >= 2; a scalar without a gradient, never zero."""
    n = distances.shape[0]
    mean = distances.detach().sum() / (n * n - n)
    return mean.clamp_min(torch.finfo(distances.dtype).tiny)


def squared_mmd(first: Tensor, second: Tensor) -> Tensor:
    """MMD^2, biased, between two samples (B, m) each, with the kernel sum_k exp(-D / (b / 4 * 2^k)), k = 0..4.

    b is the mean squared distance among all 2B rows (Gretton et al. 2012 for the estimator). Never negative but for
    rounding. With B = 1 it is a constant that still has a gradient: use at least two rows.
    """
    wide = torch.promote_types(first.dtype, torch.float32)
    distances = squared_distances(torch.cat([first.to(wide), second.to(wide)]))
    base = bandwidth(distances) / 4
    kernel = torch.stack([torch.exp(-distances / (base * 2**k)) for k in range(_KERNELS)]).sum(dim=0)
    rows = first.shape[0]
    within = kernel[:rows, :rows].mean() + kernel[rows:, rows:].mean()
    return within - 2 * kernel[:rows, rows:].mean()


def flattened(values: Tensor, mask: Tensor) -> Tensor:
    """(n, d), one row for each true place of mask (B, T) in reading order -> (B, C * d), zero where mask is false.

    C counts the columns with a true place: columns without one would add zeros to every row.
    """
    columns = mask.any(dim=0)
    narrow = mask[:, columns].reshape(-1)
    spread = values.new_zeros(narrow.numel(), values.shape[-1])
    spread = spread.index_copy(0, narrow.nonzero().squeeze(1), values)
    return spread.reshape(mask.shape[0], -1)


def noise_term(activations: Sequence[Tensor], mask: Tensor, generator: torch.Generator) -> Tensor:
    """L_noise for the MLP outputs at the n masked tokens of mask (B, T), (n, d) a layer.

    Noise is drawn where the generator lives, for the masked tokens alone and in reading order: padding does not matter.
    """
    distances = []
    for values in activations:
        wide = values.to(torch.promote_types(values.dtype, torch.float32))
        noise = torch.randn(wide.shape, dtype=wide.dtype, device=generator.device, generator=generator)
        distances.append(squared_mmd(flattened(wide, mask), flattened(noise, mask)))
    return torch.stack(distances).mean()


def harmful_term(cross_entropies: Sequence[Tensor]) -> Tensor:
    """L_harm from the L + 1 cross-entropies of the depths, scalars. At least 1, so its logarithm is at least 0."""
    return 1.0 + torch.stack(list(cross_entropies)).mean()


def defence_loss(noise: Tensor, harmful: Tensor, alpha: float, beta: float) -> Tensor:
    """beta * L_noise - alpha * log(L_harm): what comes on top of L_safe."""
    return beta * noise - alpha * torch.log(harmful)


def unsilenced(labels: Tensor) -> Tensor:
    """What of labels (B, T) trains when logits are blanked wherever the token itself is masked (published code).

    The logits at t predict the token at t + 1. Blanked logits have the constant loss ln V and no gradient, so the first
    token of every run of labels goes.
    """
    kept = labels.clone()
    kept[:, 1:][labels[:, :-1] == IGNORED] = IGNORED
    return kept
