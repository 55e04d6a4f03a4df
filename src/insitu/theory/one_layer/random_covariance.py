r"""One linear-attention layer trained on prompts whose covariance is drawn anew for every prompt.

With :math:`\Lambda_\tau = \mathrm{diag}(\lambda_1, .., \lambda_d)` random, the loss of :math:`\hat y = x_q^\top V^\top
\frac1N \sum_i x_i y_i`, V = uU, is

.. math:: L = \frac12 \sum_{ij} \gamma_{ij} V_{ij}^2 - \sum_i \xi_i V_{ii} + \frac12 E\, \mathrm{tr} \Lambda_\tau,
    \qquad \gamma_{ij} = E\Big[\frac{N+1}{N} \lambda_i^2 \lambda_j + \frac1N \lambda_i \lambda_j \sum_k \lambda_k\Big],
    \quad \xi_i = E \lambda_i^2 ,

so the layer learns the fixed diagonal :math:`\xi_i / \gamma_{ii}`, which cannot invert a covariance that varies.

References:
    Zhang, Frei and Bartlett (2024), definition 4.4, theorem 4.5, appendix C. Equation C.15 prints
    :math:`\xi_i / \gamma_i` in the limit of u; it is :math:`\xi_i^2 / \gamma_i^2`, as its own C.17 says.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError
from insitu.theory.arguments import require_covariance, require_length, validated
from insitu.theory.one_layer.gradient_flow import Flow, decoupled_flow

__all__ = [
    "DiagonalCovariances",
    "best_product",
    "descent_constant",
    "initialisation_limit",
    "limit_error",
    "product_loss",
    "scalar_floor",
]


@validated
@final
@dataclass(frozen=True, eq=False)
class DiagonalCovariances:
    r"""A law of diagonal covariances, by the expectations that the theory needs.

    Make it with :meth:`from_moments` or :meth:`from_samples`.

    Args:
        rates: :math:`\gamma_{ij}`, with :math:`\gamma_i` on the diagonal.
        pushes: :math:`\xi_i`.
        means: :math:`E \lambda_i`.

    Raises:
        InputError: If a shape does not fit or an expectation is not positive.
    """

    rates: Float[Tensor, "dim dim"]
    pushes: Float[Tensor, " dim"]
    means: Float[Tensor, " dim"]

    def __post_init__(self) -> None:
        least = min(t.min().item() for t in (self.rates, self.pushes, self.means))
        if least <= 0:
            raise InputError(
                f"DiagonalCovariances: eigenvalues must be positive, so all their moments are; got {least:.3g}."
            )

    @property
    def dim(self) -> int:
        """The dimension d."""
        return len(self.means)

    @classmethod
    @validated
    def from_moments(cls, moments: Float[Tensor, "dim 3"], length: int | float) -> "DiagonalCovariances":
        r"""Independent eigenvalues by their first three moments, one row per coordinate.

        Args:
            moments: Rows :math:`(E \lambda_i, E \lambda_i^2, E \lambda_i^3)`; the laws may differ.
            length: The context length N, or ``math.inf``.

        Raises:
            InputError: If no positive law has these moments: :math:`(E\lambda)^2 \le E\lambda^2` and
                :math:`(E\lambda^2)^2 \le E\lambda\, E\lambda^3`.

        Example:
            >>> exponential = torch.tensor([[1.0, 2.0, 6.0]], dtype=torch.float64).expand(20, 3)
            >>> law = DiagonalCovariances.from_moments(exponential, length=40)
            >>> round(law.best_diagonal()[0].item(), 4)  # 2 / (6 + 50 / 40)
            0.2759
        """
        require_length("DiagonalCovariances", "length", length)
        if not len(moments) or moments.min() <= 0:
            raise InputError(
                f"DiagonalCovariances: moments must be positive, three per coordinate; got {moments.tolist()}."
            )
        one, two, three = moments.unbind(1)
        if (one**2 > two * (1 + 1e-9)).any() or (two**2 > one * three * (1 + 1e-9)).any():
            raise InputError(
                "DiagonalCovariances: no positive law has these moments; they need (E l)^2 <= E l^2 and "
                "(E l^2)^2 <= E l E l^3."
            )
        product = torch.outer(two, one)
        others = one.sum() - one[:, None] - one[None, :]
        shared = product + product.T + torch.outer(one, one) * others
        rates = (1 + 1 / length) * product + shared / length
        own_rates = (1 + 1 / length) * three + (three + two * (one.sum() - one)) / length
        rates = rates - torch.diag(rates.diagonal()) + torch.diag(own_rates)
        return cls(rates, two, one)

    @classmethod
    @validated
    def from_samples(cls, eigenvalues: Float[Tensor, "sample dim"], length: int | float) -> "DiagonalCovariances":
        """The empirical law of given spectra, one row per covariance; the coordinates may depend on each other.

        Raises:
            InputError: If an eigenvalue is not positive and finite.
        """
        require_length("DiagonalCovariances", "length", length)
        require_spectra("DiagonalCovariances", eigenvalues)
        trace = eigenvalues.sum(1, keepdim=True)
        inner = (1 + 1 / length) * eigenvalues.square() + eigenvalues * trace / length
        rates = inner.T @ eigenvalues / len(eigenvalues)
        return cls(rates, eigenvalues.square().mean(0), eigenvalues.mean(0))

    @validated
    def scaled(self, factor: float) -> "DiagonalCovariances":
        """The law of the covariances times a factor."""
        return DiagonalCovariances(factor**3 * self.rates, factor**2 * self.pushes, factor * self.means)

    @validated
    def loss(self, product: Float[Tensor, "dim dim"]) -> Float[Tensor, ""]:
        """The loss of :math:`V = uU`, 1/2 included. With N read as the test length, twice this is the test error."""
        quadratic = (self.rates * product.square()).sum() / 2
        return quadratic - (self.pushes * product.diagonal()).sum() + self.means.sum() / 2

    def best_diagonal(self) -> Float[Tensor, " dim"]:
        r"""The diagonal :math:`R_{ii} = \xi_i / \gamma_i` of the least loss; off-diagonals are zero.

        References:
            Zhang et al. (2024), equation 4.12.
        """
        return self.pushes / self.rates.diagonal()

    def minimum_loss(self) -> float:
        r"""The least loss, :math:`\frac12 [E\, \mathrm{tr}\Lambda_\tau - \sum_i \xi_i^2 / \gamma_i]`."""
        return (self.means.sum() - (self.pushes * self.best_diagonal()).sum()).item() / 2

    def global_minimum(self) -> tuple[Float[Tensor, "dim dim"], Float[Tensor, ""]]:
        r"""The balanced global minimum :math:`U = R / \|R\|_F^{1/2}, u = \|R\|_F^{1/2}`."""
        best = self.best_diagonal()
        scale = torch.linalg.vector_norm(best).sqrt()
        return torch.diag(best / scale), scale

    @validated
    def flow(self, matrix: Float[Tensor, "dim dim"], scalar: Float[Tensor, ""], times: Float[Tensor, " time"]) -> Flow:
        """Gradient flow from any U(0) and u(0).

        Raises:
            InputError: If a shape does not fit or the times do not ascend.
            ArithmeticError: If the integration does not reach the last time.

        References:
            Zhang et al. (2024), equation C.4.
        """
        return decoupled_flow(self.rates, self.pushes, matrix, scalar, times, self.minimum_loss())


def require_spectra(who: str, eigenvalues: Float[Tensor, "sample dim"]) -> None:
    if not eigenvalues.numel() or eigenvalues.min() <= 0:
        least = f"{eigenvalues.min():.3g}" if eigenvalues.numel() else "none"
        raise InputError(f"{who}: eigenvalues must be positive, one row per covariance; got {least}.")


@validated
def initialisation_limit(
    shape: Float[Tensor, "dim dim"], eigenvalues: Float[Tensor, "sample dim"], length: int | float
) -> float:
    r"""The scale below which theorem 4.5 speaks, for the law that the samples are.

    .. math:: \sigma^2 < \frac{2 \|E[\Lambda_\tau] \Theta\|_F^2}
        {\sqrt d\, E[\|\Gamma_\tau\|_{op} \|\Lambda_\tau\|_F^2]}, \qquad \|\Theta\Theta^\top\|_F = 1

    Args:
        shape: :math:`\Theta`, of any norm.
        eigenvalues: Spectra, one row per covariance.
        length: The context length N.

    References:
        Zhang et al. (2024), equation 4.11. Sufficient, not necessary.
    """
    reach, weight, _ = start_terms("initialisation_limit", shape, eigenvalues, length)
    return math.sqrt(2 * reach / weight)


@validated
def scalar_floor(
    shape: Float[Tensor, "dim dim"], eigenvalues: Float[Tensor, "sample dim"], length: int | float, scale: float
) -> float:
    r"""A lower bound on u(t), for all t, from the balanced start of this shape and scale.

    .. math:: u(t)^2 \ge \frac{\sigma^2}{2 \sqrt d\, \|E \Lambda_\tau^2\|_{op}} \Big[ 2 \|E[\Lambda_\tau] \Theta\|_F^2
        - \sqrt d\, \sigma^2 E[\|\Gamma_\tau\|_{op} \|\Lambda_\tau\|_F^2] \Big], \qquad \|\Theta\Theta^\top\|_F = 1

    Args:
        shape: :math:`\Theta`, of any norm.
        eigenvalues: Spectra, one row per covariance.
        length: The context length N.
        scale: The scale :math:`\sigma`.

    Raises:
        InputError: If the scale is not below :func:`initialisation_limit`, where the bound says nothing.

    References:
        Zhang et al. (2024), equation C.12.
    """
    reach, weight, dim = start_terms("scalar_floor", shape, eigenvalues, length)
    limit = math.sqrt(2 * reach / weight)
    if not 0 < scale < limit:
        raise InputError(f"scalar_floor: the bound speaks of scales above 0 and below {limit:.6g} only; got {scale:g}.")
    push = eigenvalues.square().mean(0).max().item()
    return math.sqrt(scale**2 * (2 * reach - scale**2 * weight) / (2 * math.sqrt(dim) * push))


@validated
def descent_constant(
    shape: Float[Tensor, "dim dim"], eigenvalues: Float[Tensor, "sample dim"], length: int | float, scale: float
) -> float:
    r"""The constant :math:`\mu` of the Polyak-Lojasiewicz inequality along the flow from the balanced start.

    With the floor :math:`u_{min}` of :func:`scalar_floor`,

    .. math:: \|\nabla L\|^2 \ge u^2 \sum_{ij} \gamma_{ij}^2 D_{ij}^2 \ge 2 u_{min}^2 \min_{ij} \gamma_{ij} (L - \min L)
        = \mu\, (L - \min L) , \qquad D = u U - R ,

    Raises:
        InputError: If the scale is not below :func:`initialisation_limit`.

    References:
        Zhang et al. (2024), equation C.13; as printed, that is half of this.
    """
    floor = scalar_floor(shape, eigenvalues, length, scale)
    return 2 * floor**2 * DiagonalCovariances.from_samples(eigenvalues, length).rates.min().item()


def start_terms(
    who: str, shape: Float[Tensor, "dim dim"], eigenvalues: Float[Tensor, "sample dim"], length: int | float
) -> tuple[float, float, int]:
    r"""The two sides of equation 4.11 for :math:`\|\Theta\Theta^\top\|_F = 1`, and the dimension.

    They are :math:`\|E[\Lambda_\tau]\Theta\|_F^2` and :math:`\sqrt d\, E[\|\Gamma_\tau\|_{op} \|\Lambda_\tau\|_F^2]`.
    """
    require_spectra(who, eigenvalues)
    require_length(who, "length", length)
    dim = len(shape)
    keys = (1 + 1 / length) * eigenvalues.amax(1) + eigenvalues.sum(1) / length
    weight = (keys * eigenvalues.square().sum(1)).mean().item()
    product = shape @ shape.T
    reach = (eigenvalues.mean(0).square() * product.diagonal()).sum() / torch.linalg.matrix_norm(product)
    return reach.item(), math.sqrt(dim) * weight, dim


@validated
def best_product(covariances: Float[Tensor, "sample dim dim"], length: int | float) -> Float[Tensor, "dim dim"]:
    r"""The product V = uU of least loss for any law of covariances, diagonal or not, given by samples.

    It solves :math:`E[\Gamma_\tau \Lambda_\tau V \Lambda_\tau] = E[\Lambda_\tau^2]`, a linear system of size
    :math:`d^2`. The formula of theorem 4.5, :math:`E[\Gamma_\tau\Lambda_\tau^2]^{-1} E[\Lambda_\tau^2]`, is its
    solution for diagonal (or commuting) covariances and in general *not* otherwise.

    Args:
        covariances: Positive definite matrices, one per sample.
        length: The context length N.

    Raises:
        InputError: If one of the matrices is no covariance.
    """
    keys = key_products("best_product", covariances, length)
    count, dim, _ = covariances.shape
    # Row-major vec(A V B) = (A kron B') vec V.
    system = torch.einsum("sij,skl->ikjl", keys, covariances).reshape(dim**2, dim**2) / count
    push = (covariances @ covariances).mean(0)
    return torch.linalg.solve(system, push.flatten()).view(dim, dim)


@validated
def product_loss(
    product: Float[Tensor, "dim dim"], covariances: Float[Tensor, "sample dim dim"], length: int | float
) -> float:
    r"""The loss of a product V for any law of covariances, given by samples.

    .. math:: \tfrac12 E\,\mathrm{tr}[\Gamma\Lambda V \Lambda V^\top] - \mathrm{tr}[E\Lambda^2\, V^\top]
        + \tfrac12 E\,\mathrm{tr}\Lambda
    """
    keys = key_products("product_loss", covariances, length)
    quadratic = ((keys @ product @ covariances) * product).sum((1, 2)).mean() / 2
    linear = ((covariances @ covariances).mean(0) * product).sum()
    return (quadratic - linear + covariances.diagonal(dim1=1, dim2=2).sum(1).mean() / 2).item()


def key_products(who: str, covariances: Float[Tensor, "sample dim dim"], length: int | float) -> Tensor:
    """The covariances times their key matrices, after every check."""
    require_length(who, "length", length)
    if not covariances.numel():
        raise InputError(f"{who}: covariances must hold one matrix at least; got shape {tuple(covariances.shape)}.")
    values = torch.linalg.eigvalsh(covariances)
    worst = int((values[:, 0] / values[:, -1].abs()).argmin())
    odd = int((covariances - covariances.mT).abs().amax((1, 2)).argmax())
    for place in (odd, worst):
        require_covariance(who, f"covariances[{place}]", covariances[place])
    trace = covariances.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    return (1 + 1 / length) * covariances @ covariances + trace / length * covariances


@validated
def limit_error(moments: Float[Tensor, "dim 3"]) -> Float[Tensor, " dim"]:
    r"""The relative squared error per coordinate that remains when training and test prompts are infinitely long.

    The layer answers :math:`E[\Lambda^2] E[\Lambda^3]^{-1} E[\Lambda]` times the target on average, and its error is
    :math:`1 - (E\lambda^2)^2 / (E\lambda\, E\lambda^3)`: zero only if the eigenvalue does not vary.

    References:
        Zhang et al. (2024), equation 4.13; the error is derived.

    Example:
        >>> limit_error(torch.tensor([[1.0, 2.0, 6.0], [1.0, 1.0, 1.0]], dtype=torch.float64))
        tensor([0.3333, 0.0000], dtype=torch.float64)
    """
    one, two, three = moments.unbind(1)
    return 1 - two**2 / (one * three)
