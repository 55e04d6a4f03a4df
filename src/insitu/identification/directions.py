r"""Where answers lie between two candidates.

Answers f are compared with :math:`g + \alpha (h - g)`: the share :math:`\alpha` is 0 at g, 1 at h, and in between for
a mixture of the two. This sees a small admixture that noise hides from a plain distance, since the error of
:math:`\alpha` falls with the number of all answers.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from insitu.identification.evidence import Evidence
from insitu.identification.interval import Interval
from insitu.identification.objective import Objective, Residual
from insitu.identification.scoring import answers_of
from insitu.metrics.estimate import CONFIDENCE
from insitu.predictor import Predictor

__all__ = ["Direction", "between", "towards"]

# A direction this small, squared and relative to the answers, is rounding.
NEGLIGIBLE = 1e-12
TINY = 1e-300


@final
@dataclass(frozen=True)
class Direction:
    r"""How far answers lie towards another candidate.

    Args:
        share: The share :math:`\alpha`.
        error: Its standard error, prompts being independent; not less than what the answers' noise alone makes of it,
            since a handful of prompts may happen to agree.
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
    objective: Objective,
    missed: Residual,
    ahead: Residual,
    own: Float[Tensor, "entry number"] | None = None,
    *,
    even: bool = True,
) -> Direction | None:
    """The share of the way from one candidate to another at which the answers lie.

    Args:
        objective: The weighted prompts.
        missed: The weighted g - f.
        ahead: The weighted h - g.
        own: The derivatives of g by its own numbers, to which the direction is taken orthogonal.
        even: Whether prompts on which the two are far apart count less, so that a handful does not decide; where the
            noise is known these are the ones that tell most.

    Returns:
        Nothing where the two candidates answer alike.
    """
    if not bool(ahead.isfinite().all()) or not bool(missed.isfinite().all()):
        return None
    apart = objective.per_prompt(ahead)
    answers = objective.residual([torch.zeros_like(b.answers) for b in objective.evidence.blocks]).square().sum()
    if apart.sum() <= NEGLIGIBLE * answers:
        return None
    typical = apart[apart > 0].median() if even else apart.max()
    root = (typical / apart.clamp(min=typical)).sqrt()[objective.clusters].repeat_interleave(objective.entries)
    ahead, gap = root * ahead, root * missed
    if own is not None and own.shape[1]:
        basis = torch.linalg.qr(own * root[:, None]).Q
        ahead = ahead - basis @ (basis.mT @ ahead)
    size = ahead.square().sum().clamp(min=TINY)
    share = (-(gap * ahead).sum() / size).item()
    scores = (-gap * ahead - share * ahead.square()).view(-1, objective.entries).sum(1)
    summed = scores.new_zeros(int(objective.clusters.max()) + 1).index_add_(0, objective.clusters, scores)
    by_chance = (objective.variances() * (root * ahead).square()).sum()
    spread = torch.maximum(summed.square().sum(), by_chance).sqrt()
    return Direction(share, (spread / size).item(), (size / answers).item())


def between(given: Evidence, one: Predictor, other: Predictor) -> Interval | None:
    r"""How far answers lie from one learner to another: 0 at the first, 1 at the second.

    It is the share of the way at which they come nearest to the straight line between the two. For answers on this
    line it is the weight of Wurgaft et al. (2025), :math:`(r + 1) / 2` with the relative distance
    :math:`r = (d(f, g) - d(f, h)) / d(g, h)` in squared distances.

    Args:
        given: The answers.
        one: The first learner.
        other: The second.

    Returns:
        The share, with its interval at 99 %; nothing where the two learners answer alike.
    """
    objective = Objective(given)
    missed, ahead = (objective.residual(answers_of(learner, given)) for learner in (one, other))
    found = towards(objective, missed, ahead - missed)
    if found is None:
        return None
    half = float(special.ndtri((1 + CONFIDENCE) / 2)) * found.error
    return Interval("share", found.share, found.share - half, found.share + half)
