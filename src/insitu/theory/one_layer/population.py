r"""One linear-attention layer in the limit of infinitely many training prompts.

Prompts hold N inputs :math:`x \sim N(0, \Lambda)`, labels :math:`y = w^\top x` with :math:`w \sim N(0, I)`, and a
query. With the merged weights :math:`W^{KQ} = \mathrm{diag}(U, 0)` and :math:`W^{PV} = \mathrm{diag}(0, u)`, the
layer answers :math:`\hat y = u\, x_q^\top U^\top \frac1N \sum_i x_i y_i`, and everything depends on

.. math:: \Gamma = \Big(1 + \frac1N\Big) \Lambda + \frac1N \mathrm{tr}(\Lambda) I ,
    \qquad E[S^2] = \Gamma \Lambda, \quad S = \frac1N \sum_i x_i x_i^\top .

The blocks that mix inputs and labels are in :mod:`insitu.theory.one_layer.all_blocks`, test distributions in
:mod:`insitu.theory.one_layer.risk`, covariances that vary from prompt to prompt in
:mod:`insitu.theory.one_layer.random_covariance`.

References:
    Zhang, Frei and Bartlett (2024), theorem 4.1, lemmas 5.2 to 5.4, corollary A.2.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_not_negative
from insitu.theory.arguments import require_eigenvalues, require_length, require_symmetric, validated
from insitu.theory.one_layer.gradient_flow import Flow, decoupled_flow

__all__ = ["Flow", "Population"]


@validated
@final
@dataclass(frozen=True, eq=False)
class Population:
    r"""The training distribution of one linear-attention layer.

    Args:
        covariance: The input covariance :math:`\Lambda`, symmetric and positive definite; kept in float64.
        length: The training context length N, a whole number or ``math.inf``.

    Raises:
        InputError: If the covariance is not square, symmetric, finite and positive definite, or N is not positive.

    Example:
        >>> population = Population(torch.eye(20, dtype=torch.float64), length=40)
        >>> round(population.minimum_loss(), 4)
        3.4426
    """

    covariance: Float[Tensor, "dim dim"]
    length: int | float

    def __post_init__(self) -> None:
        require_length("Population", "length", self.length)
        require_symmetric("Population", "covariance", self.covariance)
        require_eigenvalues("Population", "covariance", self.eigenvalues)

    @cached_property
    def basis(self) -> tuple[Float[Tensor, " dim"], Float[Tensor, "dim dim"]]:
        r"""The eigenvalues of :math:`\Lambda`, ascending, and its eigenvectors in columns."""
        values, vectors = torch.linalg.eigh(self.covariance)
        return values, vectors

    @property
    def dim(self) -> int:
        """The dimension d."""
        return len(self.covariance)

    @property
    def eigenvalues(self) -> Float[Tensor, " dim"]:
        r"""The eigenvalues :math:`\lambda_i` of :math:`\Lambda`, ascending."""
        return self.basis[0]

    @property
    def key_values(self) -> Float[Tensor, " dim"]:
        r"""The eigenvalues of :math:`\Gamma`, in the order of those of :math:`\Lambda`."""
        return (1 + 1 / self.length) * self.eigenvalues + self.eigenvalues.sum() / self.length

    @property
    def key_matrix(self) -> Float[Tensor, "dim dim"]:
        r"""The matrix :math:`\Gamma`."""
        eye = torch.eye(self.dim, dtype=torch.float64)
        return (1 + 1 / self.length) * self.covariance + self.covariance.trace() / self.length * eye

    @property
    def best_step(self) -> Float[Tensor, "dim dim"]:
        r"""The matrix :math:`\Gamma^{-1}` that every global minimum's product :math:`u U` equals."""
        return self.from_eigenvalues(1 / self.key_values)

    @validated
    def from_eigenvalues(self, values: Float[Tensor, " dim"]) -> Float[Tensor, "dim dim"]:
        r"""The matrix with the eigenvectors of :math:`\Lambda` and these eigenvalues."""
        vectors = self.basis[1]
        return (vectors * values) @ vectors.T

    @validated
    def loss(self, matrix: Float[Tensor, "dim dim"], scalar: Float[Tensor, ""]) -> Float[Tensor, ""]:
        r"""The population loss :math:`\frac12 E(\hat y - w^\top x_q)^2`.

        .. math:: L = \mathrm{tr}\big[\tfrac12 u^2 \Gamma\Lambda U \Lambda U^\top - u \Lambda^2 U^\top\big]
            + \tfrac12 \mathrm{tr}\, \Lambda

        References:
            Zhang et al. (2024), equation 5.5.
        """
        spread, key = self.covariance, self.key_matrix
        quadratic = scalar**2 / 2 * (key @ spread @ matrix @ spread @ matrix.T).trace()
        return quadratic - scalar * (spread @ spread @ matrix.T).trace() + spread.trace() / 2

    @validated
    def gap(self, matrix: Float[Tensor, "dim dim"], scalar: Float[Tensor, ""]) -> Float[Tensor, ""]:
        r"""The loss minus the least loss, without cancellation.

        .. math:: \tfrac12 \| \Gamma^{1/2} ( u \Lambda^{1/2} U \Lambda^{1/2} - \Lambda \Gamma^{-1} ) \|_F^2
            = \tfrac12 \mathrm{tr}[\Gamma \Lambda D \Lambda D^\top], \quad D = u U - \Gamma^{-1}

        References:
            Zhang et al. (2024), corollary A.2.
        """
        missing = scalar * matrix - self.best_step
        return (self.key_matrix @ self.covariance @ missing @ self.covariance @ missing.T).trace() / 2

    @validated
    def squared_slope(self, matrix: Float[Tensor, "dim dim"], scalar: Float[Tensor, ""]) -> Float[Tensor, ""]:
        r"""The squared norm of the gradient in (U, u), from the same difference :math:`D` as :meth:`gap`.

        .. math:: \partial_U L = u\, \Gamma \Lambda D \Lambda, \quad
            \partial_u L = \mathrm{tr}[\Gamma\Lambda D \Lambda U^\top]
        """
        missing = scalar * matrix - self.best_step
        pull = self.key_matrix @ self.covariance @ missing @ self.covariance
        return scalar**2 * pull.square().sum() + (pull * matrix).sum().square()

    def global_minimum(self) -> tuple[Float[Tensor, "dim dim"], Float[Tensor, ""]]:
        r"""The balanced global minimum :math:`U = \|\Gamma^{-1}\|_F^{-1/2} \Gamma^{-1}, u = \|\Gamma^{-1}\|_F^{1/2}`.

        References:
            Zhang et al. (2024), equation 4.1.
        """
        scale = torch.linalg.vector_norm(1 / self.key_values).sqrt()
        return self.best_step / scale, scale

    def minimum_loss(self) -> float:
        r"""The least loss, :math:`\frac12 [\mathrm{tr}\,\Lambda - \mathrm{tr}(\Lambda^2 \Gamma^{-1})]`.

        Computed without the cancellation, as :math:`\frac{1}{2N} \mathrm{tr}[\Lambda \Gamma^{-1} (\Lambda +
        \mathrm{tr}(\Lambda) I)]`. Of all settings of all weights none has a smaller loss.
        """
        values = self.eigenvalues
        return (values / self.key_values * (values + values.sum())).sum().item() / (2 * self.length)

    def initialisation_limit(self) -> float:
        r"""The scale :math:`\sigma = \sqrt{2 / (\sqrt d\, \|\Gamma\|_{op})}` below which theorem 4.1 speaks.

        It is sufficient, not necessary.
        """
        return math.sqrt(2 / (math.sqrt(self.dim) * self.key_values[-1].item()))

    @validated
    def balanced_start(
        self, shape: Float[Tensor, "dim dim"], scale: float
    ) -> tuple[Float[Tensor, "dim dim"], Float[Tensor, ""]]:
        r"""The paper's initialisation :math:`U = \sigma \Theta\Theta^\top / \|\Theta\Theta^\top\|_F, u = \sigma`.

        Args:
            shape: The matrix :math:`\Theta`.
            scale: The scale :math:`\sigma`.

        Raises:
            InputError: If the shape does not fit or :math:`\Lambda\Theta = 0`, where the flow never starts.

        References:
            Zhang et al. (2024), assumption 3.3.
        """
        require_not_negative("Population.balanced_start", "scale", scale, zero=False)
        if not (self.covariance @ shape).any():
            raise InputError(
                "Population.balanced_start: shape must be a matrix that the covariance does not annihilate; got "
                f"{shape.tolist()}."
            )
        product = shape @ shape.T
        return scale * product / torch.linalg.matrix_norm(product), torch.tensor(scale, dtype=torch.float64)

    @validated
    def scalar_floor(self, shape: Float[Tensor, "dim dim"], scale: float) -> float:
        r"""A lower bound on u(t), for all t, from the balanced start.

        .. math:: u(t)^2 \ge \frac{\sigma^2}{2 \sqrt d\, \|\Lambda\|_{op}^2} \|\Lambda\Theta\|_F^2
            [2 - \sqrt d\, \sigma^2 \|\Gamma\|_{op}], \qquad \|\Theta\Theta^\top\|_F = 1

        Raises:
            InputError: If the scale is not below :meth:`initialisation_limit`, where the bound says nothing.

        References:
            Zhang et al. (2024), equation A.14.
        """
        return math.sqrt(self._start_bound(shape, scale) / 2)

    @validated
    def descent_constant(self, shape: Float[Tensor, "dim dim"], scale: float) -> float:
        r"""The constant :math:`\mu` of the Polyak-Lojasiewicz inequality along the flow from the balanced start.

        Along it :math:`\|\nabla L\|^2 \ge \mu (L - \min L)`, so the gap is at most :math:`e^{-\mu t}` of its start. It
        is loose, often by orders of magnitude:

        .. math:: \mu = \frac{\sigma^2 \|\Lambda\Theta\|_F^2 [2 - \sqrt d\, \sigma^2 \|\Gamma\|_{op}]}
            {\sqrt d\, \|\Lambda\|_{op}^2\, \mathrm{tr}(\Gamma^{-1}\Lambda^{-1})\, \mathrm{tr}(\Lambda^{-1})}

        Raises:
            InputError: If the scale is not below :meth:`initialisation_limit`.

        References:
            Zhang et al. (2024), lemma 5.4.
        """
        values = self.eigenvalues
        spread = (1 / (self.key_values * values)).sum() * (1 / values).sum()
        return self._start_bound(shape, scale) / spread.item()

    def _start_bound(self, shape: Float[Tensor, "dim dim"], scale: float) -> float:
        matrix, _ = self.balanced_start(shape, scale)
        if scale >= self.initialisation_limit():
            raise InputError(
                f"Population: the bound speaks below the scale {self.initialisation_limit():.6g} only; got {scale:g}."
            )
        reach = (self.covariance @ (matrix / scale) @ self.covariance).trace().item()
        room = 2 - math.sqrt(self.dim) * scale**2 * self.key_values[-1].item()
        return scale**2 * reach * room / (math.sqrt(self.dim) * self.eigenvalues[-1].item() ** 2)

    @validated
    def flow(
        self,
        matrix: Float[Tensor, "dim dim"],
        scalar: Float[Tensor, ""],
        times: Float[Tensor, " time"],
        *,
        hold: bool = True,
    ) -> Flow:
        r"""Gradient flow on the population loss from any :math:`U(0)` and :math:`u(0)`.

        .. math:: \dot U = -u^2 \Gamma\Lambda U \Lambda + u \Lambda^2, \qquad
            \dot u = -\mathrm{tr}[u\, \Gamma\Lambda U \Lambda U^\top - \Lambda^2 U^\top]

        It is integrated in the eigenvectors of :math:`\Lambda`, where only d + 2 numbers interact.

        Args:
            matrix: :math:`U(0)`.
            scalar: :math:`u(0)`.
            times: Ascending times from 0 on at which to report.
            hold: See :func:`~insitu.theory.one_layer.gradient_flow.decoupled_flow`; without it the conservation law is
                left to the integration, and so can be checked.

        Raises:
            InputError: If the matrix has another size or the times do not ascend.
            ArithmeticError: If the integration does not reach the last time.

        References:
            Zhang et al. (2024), lemma 5.2, equation 5.4.
        """
        values, vectors = self.basis
        rates = (self.key_values * values)[:, None] * values
        turned = vectors.T @ matrix @ vectors
        decoupled = decoupled_flow(rates, values.square(), turned, scalar, times, self.minimum_loss(), hold=hold)
        matrices = vectors @ decoupled.matrices @ vectors.T
        return Flow(times, matrices, decoupled.scalars, decoupled.losses, decoupled.gaps)
