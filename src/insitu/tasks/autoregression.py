"""First-order autoregressive sequences as prompts."""

import math
from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from jaxtyping import Complex, Float, Inexact
from torch import Tensor

from insitu.errors import InputError, require_count, require_not_negative, require_one_of
from insitu.prompt import Episode, Prompt
from insitu.seed import Seed
from insitu.tasks.task import Task

__all__ = [
    "Autoregression",
    "complex_entries",
    "conjugate_pairs",
    "orbit",
    "real_entries",
    "rotation_blocks",
    "sequence_prompt",
]

Context = Literal["rotations", "haar"]


def rotation_blocks(angles: Float[Tensor, "batch block"]) -> Float[Tensor, "batch dim dim"]:
    r"""Orthogonal matrices of 2 x 2 rotations on adjacent coordinates.

    Any two of them commute: they are the real picture of the commuting orthogonal contexts of Sander et al.
    (2024), with eigenvalues :math:`e^{\pm i\theta_b}` in adjacent pairs.

    Example:
        >>> rotation_blocks(torch.tensor([[torch.pi / 2]])).round().abs().tolist()
        [[[0.0, 1.0], [1.0, 0.0]]]
    """
    cos, sin = angles.cos(), angles.sin()
    blocks = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    return torch.stack([torch.block_diag(*row) for row in blocks])


def complex_entries(entries: Float[Tensor, "*batch dim"]) -> Complex[Tensor, "*batch block"]:
    r"""Each pair of adjacent real coordinates as one complex number :math:`z_b = (x_{2b} + i x_{2b+1}) / \sqrt 2`.

    A rotation by :math:`\theta_b` is then the factor :math:`e^{i\theta_b}`: a commuting orthogonal sequence in d
    dimensions is a commuting unitary one in d/2, and the other way round by :func:`real_entries`. All-ones vectors
    have :math:`|z_b| = 1`.

    Raises:
        InputError: If the number of coordinates is odd.

    Example:
        >>> turned = rotation_blocks(torch.tensor([[0.5]]))[0] @ torch.ones(2)
        >>> ratio = complex_entries(turned) / complex_entries(torch.ones(2))
        >>> round(ratio.angle().item(), 6)
        0.5
    """
    if entries.shape[-1] % 2:
        raise InputError(
            f"complex_entries: a complex number is two real coordinates, so dim must be even; got {entries.shape[-1]}."
        )
    return torch.view_as_complex(entries.unflatten(-1, (-1, 2)).contiguous()) / math.sqrt(2)


def real_entries(entries: Complex[Tensor, "*batch block"]) -> Float[Tensor, "*batch dim"]:
    """The inverse of :func:`complex_entries`.

    Example:
        >>> real_entries(complex_entries(torch.tensor([1.0, 2.0]))).round(decimals=5).tolist()
        [1.0, 2.0]
    """
    return torch.view_as_real(entries).flatten(-2) * math.sqrt(2)


def conjugate_pairs(entries: Float[Tensor, "*batch dim"]) -> Complex[Tensor, "*batch dim"]:
    r"""The coordinates :math:`(z_1, \bar z_1, z_2, \bar z_2, \dots)` in which commuting rotations are diagonal.

    A unitary change of basis, which preserves norms.

    Raises:
        InputError: If the number of coordinates is odd.

    Example:
        >>> conjugate_pairs(torch.tensor([3.0, 4.0])).norm().item()
        5.0
    """
    numbers = complex_entries(entries)
    return torch.stack([numbers, numbers.conj()], dim=-1).flatten(-2)


def orbit(
    matrices: Inexact[Tensor, "batch dim dim"],
    start: Inexact[Tensor, " dim"],
    length: int,
    noise: Inexact[Tensor, "batch step dim"] | None = None,
) -> Inexact[Tensor, "batch length dim"]:
    r"""The sequences :math:`s_1, \dots, s_T` with :math:`s_{t+1} = W s_t + \varepsilon_t`, real or complex.

    Args:
        matrices: The orthogonal or unitary matrices :math:`W`.
        start: The start token :math:`s_1`.
        length: The number T of entries.
        noise: :math:`\varepsilon_1, \dots, \varepsilon_{T-1}` (default: none).

    Raises:
        InputError: If a matrix is not unitary, the start is zero or not finite or does not fit, the length is below
            2, or the noise has another shape.

    Example:
        >>> quarter = rotation_blocks(torch.tensor([[torch.pi / 2]]))
        >>> orbit(quarter, torch.tensor([1.0, 0.0]), length=3).round().abs().tolist()
        [[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]]
    """
    require_count("orbit", "length", length, least=2)
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2] or start.shape != matrices.shape[-1:]:
        raise InputError(
            "orbit: expected matrices of shape (batch, dim, dim) and a start of shape (dim,); got "
            f"{tuple(matrices.shape)} and {tuple(start.shape)}."
        )
    if not start.isfinite().all() or not start.abs().any():
        raise InputError(f"orbit: the start token must be finite and not zero; got {start.tolist()}.")
    unit = torch.eye(len(start), dtype=matrices.dtype, device=matrices.device)
    off = (matrices.mH @ matrices - unit).abs().max().item()
    if not off <= 1e3 * len(start) * torch.finfo(matrices.dtype).eps:
        raise InputError(
            f"orbit: W must be orthogonal (unitary if complex); the largest entry of W*W - I is {off:.3g}. A rotation "
            "comes from rotation_blocks, any orthogonal matrix from the Q of a QR decomposition."
        )
    if noise is not None and noise.shape != (len(matrices), length - 1, len(start)):
        raise InputError(
            f"orbit: noise needs the shape {(len(matrices), length - 1, len(start))}, one entry a step; got "
            f"{tuple(noise.shape)}."
        )
    entries = [start.to(matrices).expand(len(matrices), -1)]
    for step in range(length - 1):
        following = (matrices @ entries[-1][..., None])[..., 0]
        entries.append(following if noise is None else following + noise[:, step])
    return torch.stack(entries, dim=1)


def sequence_prompt(sequence: Float[Tensor, "batch time dim"]) -> Prompt:
    """A sequence s_1..s_T as a prompt: examples (s_t, s_{t+1}) for t < T, query s_T.

    Raises:
        InputError: If the sequence has fewer than two entries.
    """
    if sequence.shape[1] < 2:
        raise InputError(
            f"sequence_prompt: a sequence needs at least two entries to hold one example; got {sequence.shape[1]}."
        )
    return Prompt(sequence[:, :-1], sequence[:, 1:], sequence[:, -1:])


@final
@dataclass(frozen=True)
class Autoregression(Task):
    r"""Sequences :math:`s_{t+1} = W s_t + \sigma \varepsilon_t` with a fresh orthogonal :math:`W` for each.

    The prompt of ``points`` examples holds :math:`s_1, \dots, s_T` with T = points + 1, and its one query is
    :math:`s_T`, so the answer is :math:`W s_T`, which without noise is :math:`s_{T+1}`.

    Args:
        dim: The dimension of an entry.
        context: The law of :math:`W`: *rotations* are independent 2 x 2 rotations by uniform angles. They commute, and
            in the complex numbers of :func:`complex_entries` they are the commuting unitary contexts in dim/2
            dimensions. *haar* is uniform on O(d); those do not commute.
        concentration: The number :math:`\mu` of rotations whose angles are uniform on :math:`(0, 2\pi/\mu)`; 1 for the
            whole circle.
        noise: The standard deviation :math:`\sigma` of a coordinate's noise in each step.
        start: The start token :math:`s_1` (default: all ones).

    Raises:
        InputError: If the dimension of rotations is odd, the concentration is below 1 or given for Haar matrices, there
            is more than one query, or the start is zero, not finite or of another size.

    References:
        Sander, Giryes, Suzuki, Blondel and Peyré (2024), section 2.

    Example:
        >>> episode = Autoregression(4).sample(Seed(0), batch=2, points=6)
        >>> torch.allclose(episode.prompt.xs @ episode.latent.mT, episode.prompt.ys)
        True
    """

    dim: int
    context: Context = "rotations"
    concentration: float = 1.0
    noise: float = 0.0
    start: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        require_count("Autoregression", "dim", self.dim, least=1)
        require_one_of("Autoregression", "context", self.context, get_args(Context))
        require_not_negative("Autoregression", "concentration", self.concentration)
        require_not_negative("Autoregression", "noise", self.noise)
        if self.context == "rotations" and self.dim % 2:
            raise InputError(
                f"Autoregression: rotation blocks pair the coordinates, so dim must be even; got {self.dim}. "
                "Take an even dim, or context='haar'."
            )
        if self.concentration < 1 or (self.concentration != 1 and self.context == "haar"):
            raise InputError(
                "Autoregression: concentration is for rotations, whose angles lie in (0, 2 pi / concentration), and "
                f"must be at least 1; got {self.concentration!r} with context={self.context!r}."
            )
        if self.start is None:
            return
        first = torch.tensor(self.start, dtype=torch.float64)
        if first.shape != (self.dim,) or not first.isfinite().all() or not first.any():
            raise InputError(
                f"Autoregression: start must hold {self.dim} finite numbers that are not all zero; got {self.start!r}."
            )

    @property
    def out(self) -> int:
        return self.dim

    @property
    def prompts(self) -> Literal["regression", "sequence"]:
        return "sequence"

    def matrices(self, seed: Seed, batch: int) -> Float[Tensor, "batch dim dim"]:
        """Draw the matrices W."""
        if self.context == "rotations":
            return rotation_blocks(2 * torch.pi / self.concentration * seed.uniform(batch, self.dim // 2))
        # QR of a Gaussian matrix is Haar once the signs of R's diagonal are moved into Q.
        q, r = torch.linalg.qr(seed.normal(batch, self.dim, self.dim))
        return q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]

    def sample(self, seed: Seed, batch: int, points: int, queries: int = 1) -> Episode:
        if queries != 1:
            raise InputError(f"Autoregression.sample: a sequence has one query, its last entry; got queries={queries}.")
        if min(batch, points) < 1:
            raise InputError(
                f"Autoregression.sample: batch and points must be at least 1; got batch={batch}, points={points}."
            )
        matrices = self.matrices(seed / "functions", batch)
        first = torch.tensor(self.start or (1.0,) * self.dim, dtype=torch.float64)
        noise = self.noise * (seed / "noise").normal(batch, points, self.dim) if self.noise else None
        sequence = orbit(matrices, first, points + 1, noise)
        return Episode(sequence_prompt(sequence), sequence[:, -1:] @ matrices.mT, matrices)
