"""Intervals over trainings: each training has a value and an error of its own, from its prompts."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from insitu.errors import InputError
from insitu.metrics import Estimate

__all__ = ["OverTrainings", "over_trainings"]


@final
@dataclass(frozen=True)
class OverTrainings:
    """What several trainings, each measured on prompts of its own, say together.

    Args:
        mean: The mean over trainings; its interval covers that of all trainings, not of those that were made.
        between: The standard deviation between trainings, beyond what the prompts' errors explain.
        within: The root mean square of the errors within one training, from its prompts.
    """

    mean: Estimate
    between: float
    within: float


def over_trainings(trainings: Sequence[Estimate]) -> OverTrainings:
    r"""The mean over independent trainings, with the interval of the hierarchy: trainings, then prompts.

    Training s has the value :math:`v_s = \mu + b_s + e_s`, where :math:`b_s` differs between trainings and
    :math:`e_s` comes from a finite number of prompts. The S values are independent, so their spread contains both,

    .. math:: E\,\mathrm{var}(v) = \tau^2 + \overline{\sigma^2}, \qquad
        \bar v \pm t_{S-1} \sqrt{\mathrm{var}(v) / S},

    and :math:`\hat\tau^2 = \mathrm{var}(v) - \overline{\sigma^2}`, or zero where that is negative. Exact numbers that
    agree in all trainings stay exact. If a training diverged to infinity, nothing is known of the mean.

    Args:
        trainings: The estimate of each training.

    Raises:
        InputError: If there are fewer than two.

    References:
        Searle, Casella and McCulloch (1992), *Variance Components*, section 3.6: the one-way random model.

    Example:
        >>> print(over_trainings([Estimate(1.0, 0.1, 50), Estimate(3.0, 0.1, 50), Estimate(2.0, 0.1, 50)]).mean)
        2 in [-3.73, 7.73] (99 %)
    """
    count = len(trainings)
    if count < 2:
        raise InputError(f"over_trainings: an interval over trainings needs at least two of them; got {count}.")
    values = [estimate.value for estimate in trainings]
    if not all(map(math.isfinite, values)):
        finite = [value for value in values if math.isfinite(value)]
        centre = statistics.fmean(finite) if finite else 0.0
        return OverTrainings(Estimate(centre, math.inf, count), math.inf, math.inf)
    spread = statistics.variance(values)
    within = statistics.fmean(estimate.error**2 for estimate in trainings)
    mean = Estimate(statistics.fmean(values), math.sqrt(spread / count), count)
    return OverTrainings(mean, math.sqrt(max(0.0, spread - within)), math.sqrt(within))
