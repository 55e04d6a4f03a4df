r"""Linear and softmax attention over context and query tokens.

Both read queries, keys and values from :class:`MergedMaps` or :class:`SeparateMaps`, add up what the mask lets a
token see, and return the update of the residual stream. Linear attention,

.. math:: u_j = \frac{1}{\rho_j} \sum_{i \text{ visible from } j} v_i \, (k_i \cdot q_j)
             = \frac{1}{\rho_j} \Big(\sum_i v_i k_i^\top\Big) q_j ,

needs only the moments :math:`\sum_i v_i k_i^\top` of leading parts of the context, so its cost is linear in the
context length: one moment for a prefix, a running one in blocks for the causal part.
"""

from typing import Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from insitu.errors import require_count, require_one_of
from insitu.models.mask import Mask

__all__ = ["LinearAttention", "Maps", "MergedMaps", "Normaliser", "SeparateMaps", "SoftmaxAttention"]

Normaliser = Literal["context", "visible", "none"]

# Context tokens per block of causal linear attention: inside a block the matrix of scores is cheapest.
BLOCK = 64


@final
class MergedMaps(nn.Module):
    r"""Merged weights: scores :math:`z_i^\top W^{KQ} z_j` and values :math:`W^{PV} z_i`, full width per head.

    Args:
        width: The width of a token.
        heads: The number of heads; their updates are added.
    """

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__()
        require_count("MergedMaps", "heads", heads, least=1)
        self.score = nn.Parameter(torch.zeros(heads, width, width))
        self.value = nn.Parameter(torch.zeros(heads, width, width))

    def forward(self, tokens: Float[Tensor, "batch token width"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each ``(batch, head, token, width)``."""
        shared = tokens[:, None].expand(-1, len(self.score), -1, -1)
        return by_head(tokens, self.score), shared, by_head(tokens, self.value)

    def join(self, heads: Float[Tensor, "batch head token width"]) -> Float[Tensor, "batch token width"]:
        """The update of the residual stream."""
        return heads.sum(1)


@final
class SeparateMaps(nn.Module):
    r"""Separate weights: queries :math:`Q z_j`, keys :math:`K z_i`, values :math:`V z_i`, joined by :math:`P`.

    Args:
        width: The width of a token.
        heads: The number of heads.
        head_width: The width of a head's queries, keys and values (default: the token's width).
    """

    def __init__(self, width: int, heads: int = 1, head_width: int | None = None) -> None:
        super().__init__()
        inner = head_width or width
        require_count("SeparateMaps", "heads", heads, least=1)
        require_count("SeparateMaps", "head_width", inner, least=1)
        self.query = nn.Parameter(torch.zeros(heads, inner, width))
        self.key = nn.Parameter(torch.zeros(heads, inner, width))
        self.value = nn.Parameter(torch.zeros(heads, inner, width))
        self.projection = nn.Parameter(torch.zeros(heads, width, inner))

    def forward(self, tokens: Float[Tensor, "batch token width"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each ``(batch, head, token, head_width)``."""
        return by_head(tokens, self.query), by_head(tokens, self.key), by_head(tokens, self.value)

    def join(self, heads: Float[Tensor, "batch head token inner"]) -> Float[Tensor, "batch token width"]:
        """The update of the residual stream."""
        return (heads @ self.projection.mT).sum(1)


def by_head(
    tokens: Float[Tensor, "batch token width"], weights: Float[Tensor, "head inner width"]
) -> Float[Tensor, "batch head token inner"]:
    """Apply every head's matrix to every token, as one product (many small ones are several times slower)."""
    return nn.functional.linear(tokens, weights.flatten(0, 1)).unflatten(-1, weights.shape[:2]).transpose(1, 2)


Maps = MergedMaps | SeparateMaps


@final
class LinearAttention(nn.Module):
    r"""Attention without softmax: cost linear in the context length.

    Args:
        maps: The maps to queries, keys and values.
        normaliser: The divisor :math:`\rho_j`: *context* divides by the number n of context tokens, *visible* by the
            number of tokens that the mask shows (1/j under a causal mask), *none* by nothing.

    References:
        The linear self-attention layer of Ding et al. (2024), equations 1 and 2; with *visible*, of their
        proposition 7; merged, of Zhang et al. (2024), equation 3.3.
    """

    def __init__(self, maps: Maps, normaliser: Normaliser = "context") -> None:
        super().__init__()
        require_one_of("LinearAttention", "normaliser", normaliser, get_args(Normaliser))
        self.maps = maps
        self.normaliser = normaliser

    def forward(
        self, tokens: Float[Tensor, "batch token width"], mask: Mask, context: int
    ) -> Float[Tensor, "batch token width"]:
        """The update of every token; the first ``context`` tokens are the context."""
        query, key, value = self.maps(tokens)
        update = visible_moments(query, key, value, mask.span(context), context)
        if mask.query_sees_itself():
            itself = (query * key).sum(-1, keepdim=True) * value
            update = torch.cat([update[:, :, :context], (update + itself)[:, :, context:]], dim=2)
        return self.maps.join(update) / self._normalisation(tokens, mask, context)

    def _normalisation(self, tokens: Tensor, mask: Mask, context: int) -> Tensor | float:
        if self.normaliser == "none":
            return 1.0
        if self.normaliser == "context":
            return float(context)
        visible = mask.visible(context, tokens.shape[1] - context)
        return visible.sum(1)[:, None].to(tokens)


def visible_moments(
    query: Float[Tensor, "batch head token inner"],
    key: Float[Tensor, "batch head token inner"],
    value: Float[Tensor, "batch head token outer"],
    span: int,
    context: int,
) -> Float[Tensor, "batch head token outer"]:
    """Unnormalised linear attention in which position j of the context sees max(j, span) tokens, and a query all."""
    moment = key[:, :, :span].mT @ value[:, :, :span] if span else None
    if span == context and moment is not None:
        return query @ moment
    rows = [] if moment is None else [query[:, :, :span] @ moment]
    # Up to two blocks at the end, and all of a short context, are cheapest as one matrix.
    last = span + max(0, (context - span - 1) // BLOCK - 1) * BLOCK
    if last > span:
        blocks = slice(span, last)
        inner, moment = causal_blocks(query[:, :, blocks], key[:, :, blocks], value[:, :, blocks], moment)
        rows.append(inner)
    # The queries, which see all, go with the last tokens.
    q, k, v = query[:, :, last:], key[:, :, last:context], value[:, :, last:context]
    scores = (q @ k.mT).tril()
    rows.append(scores @ v if moment is None else scores @ v + q @ moment)
    return rows[0] if len(rows) == 1 else torch.cat(rows, dim=2)


def causal_blocks(
    query: Float[Tensor, "batch head token inner"],
    key: Float[Tensor, "batch head token inner"],
    value: Float[Tensor, "batch head token outer"],
    before: Float[Tensor, "batch head inner outer"] | None,
) -> tuple[Float[Tensor, "batch head token outer"], Float[Tensor, "batch head inner outer"]]:
    """Causal linear attention over whole blocks after a moment, and the moment of all: all blocks at once."""
    q, k, v = (part.unflatten(2, (-1, BLOCK)) for part in (query, key, value))
    own = k.mT @ v
    first = torch.zeros_like(own[:, :, 0]) if before is None else before
    # No difference of sums: what follows a token must not reach it by rounding either.
    running = torch.cat([first[:, :, None], own], dim=2).cumsum(2)
    rows = (q @ k.mT).tril() @ v + q @ running[:, :, :-1]
    return rows.flatten(2, 3), running[:, :, -1]


@final
class SoftmaxAttention(nn.Module):
    r"""Softmax attention, :math:`u_j = P \sum_i v_i \, \mathrm{softmax}_i(k_i \cdot q_j / \sqrt{h})`.

    Args:
        maps: The maps to queries, keys and values; :math:`h` is the width of a key.

    References:
        Vaswani et al. (2017), with the masks of Ding et al. (2024), appendix E.
    """

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        self.maps = maps

    def forward(
        self, tokens: Float[Tensor, "batch token width"], mask: Mask, context: int
    ) -> Float[Tensor, "batch token width"]:
        """The update of every token; the first ``context`` tokens are the context."""
        query, key, value = self.maps(tokens)
        visible = mask.visible(context, tokens.shape[1] - context).to(tokens.device)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        return self.maps.join(mixed)
