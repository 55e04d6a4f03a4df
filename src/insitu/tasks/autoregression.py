"""First-order autoregressive sequences, read as prompts."""

from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_count, require_one_of
from insitu.prompt import Episode, Prompt
from insitu.seed import Seed
from insitu.tasks.task import Task

__all__ = ["Autoregression", "rotation_blocks", "sequence_prompt"]

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
    r"""Noiseless sequences :math:`s_{t+1} = W s_t` with a fresh orthogonal :math:`W` for each.

    The prompt of ``points`` examples holds :math:`s_1, \dots, s_T` with T = points + 1, and its one query is
    :math:`s_T`, so the answer is :math:`s_{T+1}`. Every sequence starts at the all-ones vector.

    Args:
        dim: The dimension of an entry.
        context: The law of :math:`W`: *rotations* are independent 2 x 2 rotations by uniform angles (they
            commute), *haar* is uniform on O(d) (they do not).

    Raises:
        InputError: If rotations are asked for in an odd dimension, or for more than one query.

    References:
        Sander, Giryes, Suzuki, Blondel and Peyre (2024), section 2.

    Example:
        >>> episode = Autoregression(4).sample(Seed(0), batch=2, points=6)
        >>> torch.allclose(episode.prompt.xs @ episode.latent.mT, episode.prompt.ys)
        True
    """

    dim: int
    context: Context = "rotations"

    def __post_init__(self) -> None:
        require_count("Autoregression", "dim", self.dim, least=1)
        require_one_of("Autoregression", "context", self.context, get_args(Context))
        if self.context == "rotations" and self.dim % 2:
            raise InputError(
                f"Autoregression: rotation blocks pair the coordinates, so dim must be even; got {self.dim}. "
                "Take an even dim, or context='haar'."
            )

    def matrices(self, seed: Seed, batch: int) -> Float[Tensor, "batch dim dim"]:
        """Draw the matrices W."""
        if self.context == "rotations":
            return rotation_blocks(2 * torch.pi * seed.uniform(batch, self.dim // 2))
        # QR of a Gaussian matrix is Haar once the signs of R's diagonal are moved into Q.
        q, r = torch.linalg.qr(seed.normal(batch, self.dim, self.dim))
        return q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]

    def sample(self, seed: Seed, batch: int, points: int, queries: int = 1) -> Episode:
        if queries != 1:
            raise InputError(
                f"Autoregression.sample: a sequence asks one question, its next entry; got queries={queries}."
            )
        if min(batch, points) < 1:
            raise InputError(
                f"Autoregression.sample: batch and points must be at least 1; got batch={batch}, points={points}."
            )
        matrices = self.matrices(seed / "functions", batch)
        entries = [torch.ones(batch, self.dim, 1, dtype=torch.float64)]
        for _ in range(points + 1):
            entries.append(matrices @ entries[-1])
        sequence = torch.cat(entries, dim=2).mT
        return Episode(sequence_prompt(sequence[:, :-1]), sequence[:, -1:], matrices)
