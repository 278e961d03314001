"""Wasserstein training with a gradient penalty: losses of critic and generator, who moves when.

SegSRGAN (2020, equations 7 to 11); WGAN-GP (Gulrajani et al. 2017); mDCSRN (section 4.1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def critic_loss(
    critic: nn.Module,
    real: Tensor,
    fake: Tensor,
    gradient_penalty: float,
    *,
    epsilon: Tensor | None = None,
    resolution: Tensor | None = None,
) -> dict[str, Tensor]:
    """Loss of a critic, SegSRGAN (2020), equations 8 and 9, negated: a critic maximises those.

    Args:
        critic: Takes patches (and the resolution, if conditional), gives scores (B, 1).
        real: High-resolution patches and their segmentations, (B, C, X, Y, Z).
        fake: Output of the generator, same shape; no gradient is handed on to it.
        gradient_penalty: lambda_gp.
        epsilon: Share of the fake in the patches where the gradient is taken, in 0 to 1,
            (B, 1, 1, 1, 1): one a sample, all channels on one line between the pair. None draws
            it from torch's global source of random numbers.
        resolution: For a conditional critic, the resolution in mm, (B,).

    Returns:
        Scalars: 'real', minus the mean score of the real patches; 'fake', that of the fake ones;
        'penalty', with its weight; 'total', their sum.
    """
    fake = fake.detach()
    if epsilon is None:
        epsilon = torch.rand(len(real), 1, 1, 1, 1, dtype=real.dtype, device=real.device)
    epsilon = epsilon.to(real)
    between = ((1 - epsilon) * real + epsilon * fake).requires_grad_()
    doubled = None if resolution is None else resolution.repeat(2)
    # No critic normalises over a batch, so that one pass serves both.
    scores = _scores(critic, torch.cat([real, fake]), doubled)
    real_scores, fake_scores = scores.chunk(2)
    terms = {
        'real': -real_scores.mean(),
        'fake': fake_scores.mean(),
        'penalty': gradient_penalty * _penalty(critic, between, resolution),
    }
    terms['total'] = torch.stack(list(terms.values())).sum()
    return terms


def generator_adversarial(
    critic: nn.Module, fake: Tensor, resolution: Tensor | None = None
) -> Tensor:
    """Adversarial loss of a generator, without its weight (mDCSRN, equation 5).

    Args:
        critic: As in `critic_loss`.
        fake: Output of the generator, (B, C, X, Y, Z).
        resolution: For a conditional critic, the resolution in mm, (B,).

    Returns:
        Minus the mean score, a scalar.
    """
    return -_scores(critic, fake, resolution).mean()


def _scores(critic: nn.Module, patches: Tensor, resolution: Tensor | None) -> Tensor:
    scores = critic(patches) if resolution is None else critic(patches, resolution)
    return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores


def _penalty(critic: nn.Module, between: Tensor, resolution: Tensor | None) -> Tensor:
    """Mean squared distance of the norm of the gradient from one."""
    scores = _scores(critic, between, resolution)
    (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
    # Unlike a root of a sum of squares, vector_norm has a gradient at zero, which is zero.
    norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return (norm - 1).square().mean()
