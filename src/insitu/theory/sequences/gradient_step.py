r"""The exact loss of one gradient step on a commuting sequence, and the step size that is best for it.

On augmented tokens a layer answers :math:`\eta \sum_{t=2}^T s_t s_{t-1}^* s_T`. Let W be diagonal with eigenvalues
uniform on the unit circle, independent or in conjugate pairs, and :math:`s_1` all ones, and let :math:`m = T - 1`
count the examples. The terms in which a coordinate meets itself are all :math:`\lambda_k^T`, the target; the others are
m (d - 1) different monomials, orthogonal to it and to each other. So

.. math:: \ell_T(\eta) = \mathbb{E} \|W_1 s_T - s_{T+1}\|^2 = d \left[(1 - \eta m)^2 + \eta^2 m n\right],

with n = d - 1 for one head with scalar blocks, and n = 0 for d heads that take one coordinate each, which is a step on
the eigenvalues. Both contexts give the same.

References:
    Sander et al. (2024), augmented tokens; the asymptotic step 3/(2T) is the paper's, the finite ones are derived here.
"""

from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import require_count, require_one_of
from insitu.theory.arguments import validated

__all__ = ["SequenceStep", "StepForm"]

StepForm = Literal["matrix", "eigenvalues"]


@validated
@final
@dataclass(frozen=True)
class SequenceStep:
    r"""One gradient step with one constant rate for all lengths T = 2..length.

    Args:
        dim: The dimension d.
        length: The greatest length :math:`T_{max}`.
        form: *matrix* for one head with scalar blocks, *eigenvalues* for a head for every coordinate.

    Raises:
        InputError: If the dimension is below 1 or the length below 2.

    Example:
        >>> SequenceStep(dim=2, length=10).best_rate  # 3 / (2 * 10 + 3 * 2 - 4)
        0.13636363636363635
        >>> SequenceStep(dim=2, length=10, form="eigenvalues").best_rate  # 3 / (2 * 10 - 1)
        0.15789473684210525
    """

    dim: int
    length: int
    form: StepForm = "matrix"

    def __post_init__(self) -> None:
        require_count("SequenceStep", "dim", self.dim, least=1)
        require_count("SequenceStep", "length", self.length, least=2)
        require_one_of("SequenceStep", "form", self.form, get_args(StepForm))

    @property
    def others(self) -> int:
        """The number n of coordinates that act as noise on a coordinate."""
        return self.dim - 1 if self.form == "matrix" else 0

    @property
    def examples(self) -> Float[Tensor, " length"]:
        """The numbers m = T - 1 of examples, for T = 2..length."""
        return torch.arange(1, self.length, dtype=torch.float64)

    @validated
    def losses(self, rate: float | Float[Tensor, " length"]) -> Float[Tensor, " length"]:
        """The loss at every T = 2..length; the rate is one for all or one for each."""
        m = self.examples
        return self.dim * ((1 - rate * m) ** 2 + rate**2 * m * self.others)

    @validated
    def gradient(self, rate: float) -> float:
        r"""The derivative of the summed loss in the rate, :math:`2 d [\eta (S_2 + n S_1) - S_1]`."""
        return (2 * self.dim * (rate * self.curvature - self.examples.sum())).item()

    @property
    def curvature(self) -> Float[Tensor, ""]:
        """S_2 + n S_1, with S_i the sum of m to the power of i."""
        m = self.examples
        return (m * m + self.others * m).sum()

    @property
    def best_rate(self) -> float:
        r"""The rate with the least summed loss: :math:`3 / (2 T_{max} + 3 n - 1)`, asymptotically 3/(2 T_max)."""
        return 3 / (2 * self.length + 3 * self.others - 1)

    @property
    def asymptotic_rate(self) -> float:
        """The limit of the best rate for long sequences, 3/(2 T_max), as in the paper."""
        return 3 / (2 * self.length)

    @property
    def minimum(self) -> float:
        r"""The least summed loss, :math:`d (M - S_1^2 / (S_2 + n S_1))` with :math:`M = T_{max} - 1`.

        Divided by d M it tends to 1/4, the integral of :math:`(1 - 3x/2)^2`: one constant rate does not solve the task.
        """
        return self.losses(self.best_rate).sum().item()

    @property
    def best_rates(self) -> Float[Tensor, " length"]:
        """The best rate of every length by itself, 1/(m + n)."""
        return 1 / (self.examples + self.others)

    @property
    def minima(self) -> Float[Tensor, " length"]:
        """The least loss at every length by itself, d n / (m + n), which vanishes as T grows."""
        return self.dim * self.others / (self.examples + self.others)
