r"""One linear-attention layer in the limit of infinitely many training prompts.

Prompts hold N inputs :math:`x \sim N(0, \Lambda)`, labels :math:`y = w^\top x` with :math:`w \sim N(0, I)`, and a
query. With the merged weights :math:`W^{KQ} = \mathrm{diag}(U, 0)` and :math:`W^{PV} = \mathrm{diag}(0, u)`, the
layer answers :math:`\hat y = u\, x_q^\top U^\top \frac1N \sum_i x_i y_i`, and everything is told by

.. math:: \Gamma = \Big(1 + \frac1N\Big) \Lambda + \frac1N \mathrm{tr}(\Lambda) I ,
    \qquad E[S^2] = \Gamma \Lambda, \quad S = \frac1N \sum_i x_i x_i^\top .

References:
    Zhang, Frei and Bartlett (2024), theorem 4.1, lemmas 5.2 and 5.3, corollary A.2.
"""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from scipy import integrate
from torch import Tensor

from insitu.errors import InputError, require_count, require_not_negative

__all__ = ["Flow", "Population"]


@final
@dataclass(frozen=True, eq=False)
class Flow:
    """A gradient flow in time.

    Args:
        times: The times.
        matrices: :math:`U(t)`.
        scalars: :math:`u(t)`.
        losses: The population loss, 1/2 included.
    """

    times: Float[Tensor, " time"]
    matrices: Float[Tensor, "time dim dim"]
    scalars: Float[Tensor, " time"]
    losses: Float[Tensor, " time"]


@final
@dataclass(frozen=True, eq=False)
class Population:
    r"""The training distribution of one linear-attention layer.

    Args:
        covariance: The input covariance :math:`\Lambda`, symmetric and positive definite.
        length: The training context length N.

    Raises:
        InputError: If the covariance is not square, symmetric, finite and positive definite, or N is not positive.

    Example:
        >>> population = Population(torch.eye(20, dtype=torch.float64), length=40)
        >>> round(population.minimum_loss(), 4)
        3.4426
    """

    covariance: Float[Tensor, "dim dim"]
    length: int

    def __post_init__(self) -> None:
        require_count("Population", "length", self.length, least=1)
        given = self.covariance
        if given.ndim != 2 or given.shape[0] != given.shape[1] or not given.isfinite().all():
            raise InputError(f"Population: covariance must be square and finite; got shape {tuple(given.shape)}.")
        if (given - given.T).abs().max() > 1e-12 * given.abs().max():
            raise InputError("Population: covariance must be symmetric; take (C + C.T) / 2 if rounding broke it.")
        values = torch.linalg.eigvalsh(given.double())
        if values[0] <= 1e-14 * values[-1]:
            raise InputError(
                "Population: covariance must be positive definite; its least and largest eigenvalues are "
                f"{values[0]:.3g} and {values[-1]:.3g}. Drop the directions in which no input varies."
            )

    @property
    def key_matrix(self) -> Float[Tensor, "dim dim"]:
        r"""The matrix :math:`\Gamma`."""
        eye = torch.eye(len(self.covariance), dtype=self.covariance.dtype)
        trace = self.covariance.trace()
        return (1 + 1 / self.length) * self.covariance + trace / self.length * eye

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

    def global_minimum(self) -> tuple[Float[Tensor, "dim dim"], Float[Tensor, ""]]:
        r"""The balanced global minimum :math:`U = \|\Gamma^{-1}\|_F^{-1/2} \Gamma^{-1}, u = \|\Gamma^{-1}\|_F^{1/2}`.

        References:
            Zhang et al. (2024), equation 4.1.
        """
        inverse = torch.linalg.inv(self.key_matrix)
        scale = torch.linalg.matrix_norm(inverse).sqrt()
        return inverse / scale, scale

    def minimum_loss(self) -> float:
        r"""The least loss, :math:`\frac12 [\mathrm{tr}\,\Lambda - \mathrm{tr}(\Lambda^2 \Gamma^{-1})]`.

        Computed without the cancellation, as :math:`\frac{1}{2N} \mathrm{tr}[\Lambda \Gamma^{-1} (\Lambda +
        \mathrm{tr}(\Lambda) I)]`. Of all settings of all weights none has a smaller loss.
        """
        spread = self.covariance
        eye = torch.eye(len(spread), dtype=spread.dtype)
        inner = torch.linalg.solve(self.key_matrix, spread + spread.trace() * eye)
        return (spread @ inner).trace().item() / (2 * self.length)

    def initialisation_limit(self) -> float:
        r"""The scale :math:`\sigma = \sqrt{2 / (\sqrt d\, \|\Gamma\|_{op})}` below which theorem 4.1 speaks.

        It is sufficient, not necessary.
        """
        largest = torch.linalg.eigvalsh(self.key_matrix)[-1].item()
        return math.sqrt(2 / (math.sqrt(len(self.covariance)) * largest))

    def balanced_start(self, shape: Float[Tensor, "dim dim"], scale: float) -> tuple[Tensor, Tensor]:
        r"""The paper's initialisation :math:`U = \sigma \Theta\Theta^\top / \|\Theta\Theta^\top\|_F, u = \sigma`.

        Args:
            shape: The matrix :math:`\Theta`.
            scale: The scale :math:`\sigma`.

        Raises:
            InputError: If the shape does not fit or :math:`\Lambda\Theta = 0`, where the flow never starts.

        References:
            Zhang et al. (2024), assumption 3.3.
        """
        dim = len(self.covariance)
        require_not_negative("Population.balanced_start", "scale", scale, zero=False)
        if shape.shape != (dim, dim) or not (self.covariance @ shape.to(self.covariance)).abs().max() > 0:
            raise InputError(
                f"Population.balanced_start: shape must be a {dim} x {dim} matrix that the covariance does not "
                f"annihilate; got shape {tuple(shape.shape)}."
            )
        product = shape @ shape.T
        return scale * product / torch.linalg.matrix_norm(product), torch.tensor(scale, dtype=torch.float64)

    def flow(self, matrix: Float[Tensor, "dim dim"], scalar: Float[Tensor, ""], times: Float[Tensor, " time"]) -> Flow:
        r"""Gradient flow on the population loss from any :math:`U(0)` and :math:`u(0)`.

        .. math:: \dot U = -u^2 \Gamma\Lambda U \Lambda + u \Lambda^2, \qquad
            \dot u = -\mathrm{tr}[u\, \Gamma\Lambda U \Lambda U^\top - \Lambda^2 U^\top]

        Args:
            matrix: :math:`U(0)`.
            scalar: :math:`u(0)`.
            times: Ascending times from 0 on at which to report.

        Raises:
            InputError: If the matrix has another size.

        References:
            Zhang et al. (2024), lemma 5.2, equation 5.4.
        """
        spread, key = (t.double().numpy() for t in (self.covariance, self.key_matrix))
        dim = len(spread)
        if matrix.shape != (dim, dim):
            raise InputError(f"Population.flow: matrix must be {dim} x {dim}; got shape {tuple(matrix.shape)}.")

        push = spread @ spread

        def velocity(_time: float, state: np.ndarray) -> np.ndarray:
            big, small = state[:-1].reshape(dim, dim), state[-1]
            pull = key @ spread @ big @ spread
            along = np.sum((push - small * pull) * big)
            return np.append((small * push - small**2 * pull).ravel(), along)

        state = np.append(matrix.double().numpy().ravel(), scalar.item())
        ends = (float(times[0]), float(times[-1]))
        solved = integrate.solve_ivp(
            velocity, ends, state, method="LSODA", t_eval=times.numpy(), rtol=1e-11, atol=1e-13
        )
        path = torch.from_numpy(solved.y.T.copy())
        matrices, scalars = path[:, :-1].reshape(-1, dim, dim), path[:, -1]
        losses = torch.stack([self.loss(m, s) for m, s in zip(matrices, scalars, strict=True)])
        return Flow(times, matrices, scalars, losses)
