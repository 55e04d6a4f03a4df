r"""Where answers lie between two candidates.

Answers f are compared with :math:`g + \alpha (h - g)`: the share :math:`\alpha` is 0 at g, 1 at h, and in between for
a mixture of the two. This sees a small admixture that noise hides from a plain distance, since the error of
:math:`\alpha` falls with the number of all answers.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.identification.objective import Objective, Residual

__all__ = ["Direction", "towards"]

# A direction this small, squared and relative to the answers, is rounding.
NEGLIGIBLE = 1e-12
TINY = 1e-300


@final
@dataclass(frozen=True)
class Direction:
    r"""How far answers lie towards another candidate.

    Args:
        share: The share :math:`\alpha`.
        error: Its standard error, prompts being independent.
        size: The squared distance of the two candidates, relative to the answers, as far as the first one's own
            numbers cannot make up for it.
    """

    share: float
    error: float
    size: float

    @property
    def strength(self) -> float:
        """The share in units of its error."""
        return self.share / max(self.error, TINY)

    def most(self, quantile: float) -> float:
        """The largest share of the answers that may hide here: the squared difference at the end of the interval."""
        return (abs(self.share) + quantile * self.error) ** 2 * self.size


def towards(
    objective: Objective, missed: Residual, ahead: Residual, own: Float[Tensor, "entry number"] | None = None
) -> Direction | None:
    """The share of the way from one candidate to another at which the answers lie.

    Args:
        objective: The weighted prompts.
        missed: The weighted g - f.
        ahead: The weighted h - g.
        own: The derivatives of g by its own numbers, to which the direction is taken orthogonal.

    Returns:
        Nothing where the two candidates answer alike.
    """
    if not bool(ahead.isfinite().all()) or not bool(missed.isfinite().all()):
        return None
    apart = objective.per_prompt(ahead)
    answers = objective.residual([torch.zeros_like(b.answers) for b in objective.evidence.blocks]).square().sum()
    if apart.sum() <= NEGLIGIBLE * answers:
        return None
    # Prompts on which the two are far apart count relative to that, or a handful would decide.
    typical = apart[apart > 0].median()
    root = (typical / apart.clamp(min=typical)).sqrt()[objective.clusters].repeat_interleave(objective.entries)
    ahead, gap = root * ahead, root * missed
    if own is not None and own.shape[1]:
        basis = torch.linalg.qr(own * root[:, None]).Q
        ahead = ahead - basis @ (basis.mT @ ahead)
    size = ahead.square().sum().clamp(min=TINY)
    share = (-(gap * ahead).sum() / size).item()
    scores = (-gap * ahead - share * ahead.square()).view(-1, objective.entries).sum(1)
    summed = scores.new_zeros(int(objective.clusters.max()) + 1).index_add_(0, objective.clusters, scores)
    return Direction(share, summed.norm().item() / size.item(), (size / answers).item())
