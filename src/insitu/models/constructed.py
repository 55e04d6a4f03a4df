r"""Networks whose weights are set by hand to run a learner.

They are ordinary :class:`AttentionNetwork` objects.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from insitu.errors import InputError, require_not_negative
from insitu.learners.learner import as_nested, as_tensor
from insitu.models.attention import LinearAttention, MergedMaps, Normaliser
from insitu.models.attention_network import Architecture, AttentionNetwork
from insitu.models.mask import Mask, Prefix

__all__ = ["gradient_descent", "sequence_descent", "sequence_descents", "telescoping"]


def gradient_descent(
    dim: int,
    steps: int,
    rate: float | Sequence[float],
    *,
    out: int = 1,
    mask: Mask | None = None,
    normaliser: Normaliser = "context",
    preconditioner: Tensor | None = None,
    start: Tensor | None = None,
) -> AttentionNetwork:
    r"""A linear-attention network whose layer l is step l of gradient descent.

    Each layer holds, in the coordinates (x; y),

    .. math:: W^{KQ} = \begin{pmatrix} A & 0 \\ 0 & 0 \end{pmatrix}, \quad
        W^{PV} = \eta_l \begin{pmatrix} 0 & 0 \\ w^{(0)} & -I \end{pmatrix}, \quad
        R = (w^{(0)}, -I),

    so that an example's label coordinate is its residual :math:`y_j - (w^{(l)} - w^{(0)}) x_j` and a query reads
    :math:`w^{(l)} x_q`. Under the prefix mask this is :class:`~insitu.learners.GradientDescent` on the context
    (proposition 1; with a start, proposition 6). Under the causal mask the same weights run n coupled
    iterations, one per place, with :math:`\eta / n` (proposition 2), and with ``normaliser="visible"`` those
    with :math:`\eta / j` (proposition 7).

    Args:
        dim: The dimension d.
        steps: The number of layers.
        rate: The rate, one for all layers (which then share their weights) or one per layer.
        out: The number of outputs.
        mask: The mask (default: prefix).
        normaliser: The divisor of a layer's attention.
        preconditioner: The matrix :math:`A`, ``(dim, dim)`` (default: the identity).
        start: The weights :math:`w^{(0)}`, ``(out, dim)`` (default: zero).

    Returns:
        A float64 network.

    Raises:
        InputError: If the rates do not match the steps, or a matrix has another shape.

    References:
        von Oswald et al. (2023), proposition 1; Ding et al. (2024), equation 5.

    Example:
        >>> from insitu import Seed
        >>> from insitu.learners import GradientDescent
        >>> from insitu.tasks import LinearRegression, UniformCube
        >>> prompt = LinearRegression(UniformCube(4)).sample(Seed(0), batch=2, points=8).prompt
        >>> network = gradient_descent(dim=4, steps=3, rate=0.5)
        >>> torch.allclose(network.predict(prompt), GradientDescent(steps=3, rate=0.5).predict(prompt))
        True
    """
    shared = isinstance(rate, int | float)
    rates = [float(rate)] * steps if isinstance(rate, int | float) else [float(r) for r in rate]
    if len(rates) != steps:
        raise InputError(f"gradient_descent: {steps} steps need {steps} rates or a single one; got {len(rates)}.")
    network = AttentionNetwork(
        Architecture(dim=dim, out=out, layers=steps, mask=mask or Prefix(), normaliser=normaliser, shared=shared)
    ).double()
    like = network.readout.detach()
    matrix = torch.eye(dim).to(like)
    if preconditioner is not None:
        nested = as_nested("gradient_descent", "preconditioner", preconditioner)
        matrix = as_tensor("gradient_descent", "preconditioner", nested, [(dim, dim)], like)
    first = like.new_zeros(out, dim)
    if start is not None:
        first = as_tensor(
            "gradient_descent", "start", as_nested("gradient_descent", "start", start), [(out, dim)], like
        )
    reading = torch.cat([first, -torch.eye(out).to(like)], dim=1)
    with torch.no_grad():
        network.readout.copy_(reading)
        for layer, eta in zip(network.layers, rates[:1] if shared else rates, strict=True):
            one_step_layer(merged_maps(layer), matrix, eta * reading)
    network.origin = f"gradient descent, rate {rate}"
    return network


def merged_maps(layer: nn.Module) -> MergedMaps:
    return cast(MergedMaps, cast(LinearAttention, layer).maps)


@torch.no_grad()
def one_step_layer(maps: MergedMaps, matrix: Tensor, update: Tensor) -> None:
    """Set one layer: ``matrix`` scores inputs against inputs, ``update`` (out, width) writes the label slot."""
    dim, out = matrix.shape[0], update.shape[0]
    maps.score.zero_()
    maps.value.zero_()
    maps.score[0, :dim, :dim] = matrix
    maps.value[0, -out:] = update


def sequence_descent(dim: int, rate: float) -> AttentionNetwork:
    r"""One linear-attention layer on augmented tokens that takes one gradient step on a sequence's own loss.

    On tokens :math:`(0; s_t; s_{t-1})` the score matches :math:`s_{t-1}` of a key with :math:`s_T` of the query
    and the value writes :math:`\eta s_t` into the first block, so the answer is :math:`W_1 s_T` with

    .. math:: W_1 = \eta \sum_{t=2}^{T} s_t s_{t-1}^\top
        = W_0 - \eta \nabla_W \tfrac12 \sum_{t=1}^{T-1} \|s_{t+1} - W s_t\|^2 \Big|_{W_0 = 0} .

    It holds for every matrix W behind the sequence. The rate is on the sum: :math:`\eta` here is
    :math:`\eta' / n` of ``GradientDescent(steps=1, rate=eta')``.

    Args:
        dim: The dimension of an entry.
        rate: The rate :math:`\eta`.

    References:
        von Oswald et al. (2023), Uncovering mesa-optimization; Sander et al. (2024), augmented tokens.

    Example:
        >>> sequence_descent(dim=2, rate=0.1).architecture.width
        6
    """
    network = AttentionNetwork(Architecture(dim=dim, out=dim, normaliser="none", encoding="augmented")).double()
    maps = merged_maps(network.layers[0])
    unit = torch.eye(dim, dtype=torch.float64)
    with torch.no_grad():
        network.readout[:, :dim] = unit
        maps.score[0, 2 * dim :, dim : 2 * dim] = unit
        maps.value[0, :dim, dim : 2 * dim] = rate * unit
    network.origin = f"one step on a sequence, rate {rate}"
    return network


def sequence_descents(dim: int, steps: int, rate: float, *, mask: Mask | None = None) -> AttentionNetwork:
    r"""A linear-attention network whose layer l is step l of gradient descent on a sequence's own loss.

    A token :math:`(p; r; k; q)` starts as :math:`(0; s_t; s_{t-1}; s_t)`, and two heads add

    .. math:: p_j \leftarrow p_j + \eta \sum_i r_i \langle k_i, q_j \rangle, \qquad
        r_j \leftarrow r_j - \eta \sum_i r_i \langle k_i, k_j \rangle .

    Where all tokens of the context see each other, L layers are L steps from W = 0 with the rate on the sum, as in
    :func:`sequence_descent`. Under a causal mask the residuals contract by
    :math:`I - \eta\, \mathrm{tril}(G)` in place of :math:`I - \eta G`, G the Gram matrix of the keys, and depth leads
    to one pass of :class:`~insitu.learners.Kaczmarz` instead of least squares.

    Args:
        dim: The dimension of an entry.
        steps: The number of layers, which share their weights.
        rate: The rate :math:`\eta`.
        mask: The attention mask (default: prefix, the exact case).

    References:
        Derived; Sander and Peyré (2024) call the causal variant causal descent.

    Example:
        >>> sequence_descents(dim=2, steps=3, rate=0.1).architecture.width
        8
    """
    architecture = Architecture(
        dim, dim, layers=steps, heads=2, mask=mask or Prefix(), normaliser="none", shared=True, encoding="carried"
    )
    network = AttentionNetwork(architecture).double()
    maps = merged_maps(network.layers[0])
    unit = torch.eye(dim, dtype=torch.float64)
    answer, residual, key, query = (slice(i * dim, (i + 1) * dim) for i in range(4))
    with torch.no_grad():
        network.readout[:, answer] = unit
        maps.score[0, key, query] = maps.score[1, key, key] = unit
        maps.value[0, answer, residual] = rate * unit
        maps.value[1, residual, residual] = -rate * unit
    network.origin = f"gradient descent on a sequence, rate {rate}"
    return network


def telescoping(dim: int, square: float = 2.0) -> AttentionNetwork:
    r"""One linear-attention layer on augmented tokens that is exact for rotations, without positions.

    A token holds both :math:`s_t` and :math:`s_{t-1}`, so a difference of two heads telescopes to the last token,
    :math:`\sum_t (s_t s_t^\top - s_{t-1} s_{t-1}^\top) = s_T s_T^\top`. Four heads for each block of two coordinates
    answer, with J the quarter turn,

    .. math:: s_{T+1} = \frac{1}{\|s\|^2} \left[s_T s_T^\top - (J s_T)(J s_T)^\top\right] s_{T-1} .

    It uses blocks of weights that a gradient step leaves zero: what a free layer can do is more than one step.

    Args:
        dim: The dimension of an entry.
        square: :math:`\|s\|^2` of a block of two coordinates; 2 for sequences that start at all ones.

    Raises:
        InputError: If the dimension is odd or the square not positive.

    Example:
        >>> telescoping(dim=4).architecture.heads
        8
    """
    require_not_negative("telescoping", "square", square, zero=False)
    if dim % 2:
        raise InputError(f"telescoping: rotation blocks pair the coordinates, so dim must be even; got {dim}.")
    network = AttentionNetwork(Architecture(dim, dim, heads=2 * dim, normaliser="none", encoding="augmented")).double()
    maps = merged_maps(network.layers[0])
    unit = torch.eye(2, dtype=torch.float64)
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    with torch.no_grad():
        network.readout[:, :dim] = torch.eye(dim, dtype=torch.float64)
        for head in range(2 * dim):
            block, part = divmod(head, 4)
            # The two heads of a turn read s_t and s_{t-1}, with opposite signs.
            turn, sign = (unit, 1.0) if part < 2 else (quarter, -1.0)
            read = (1 + part % 2) * dim + 2 * block
            block_rows = slice(2 * block, 2 * block + 2)
            query_columns = slice(2 * dim + 2 * block, 2 * dim + 2 * block + 2)
            maps.score[head, read : read + 2, query_columns] = turn.T
            maps.value[head, block_rows, read : read + 2] = sign * (1 - 2 * (part % 2)) / square * turn
    network.origin = f"telescoping sum, square {square}"
    return network
