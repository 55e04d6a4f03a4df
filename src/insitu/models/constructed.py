r"""Networks whose weights are set by hand to run a learner.

They are ordinary :class:`AttentionNetwork` objects: nothing in the library knows that they were not trained.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from insitu.errors import InputError
from insitu.learners.learner import as_nested, as_tensor
from insitu.models.attention import LinearAttention, MergedMaps, Normaliser
from insitu.models.mask import Mask, Prefix
from insitu.models.network import Architecture, AttentionNetwork

__all__ = ["gradient_descent", "sequence_descent"]


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
        mask: The mask; prefix where none is given.
        normaliser: What a layer divides by.
        preconditioner: The matrix :math:`A`, ``(dim, dim)``; the identity where none is given.
        start: The weights :math:`w^{(0)}`, ``(out, dim)``; zero where none is given.

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
        given = as_nested("gradient_descent", "preconditioner", preconditioner)
        matrix = as_tensor("gradient_descent", "preconditioner", given, [(dim, dim)], like)
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
    return network
