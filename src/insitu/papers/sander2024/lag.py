"""Which token must be the query for diagonal heads to solve the task."""

from dataclasses import dataclass

import torch
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, line
from insitu.metrics import Estimate
from insitu.papers.sander2024.steps import CONTEXTS, sequences
from insitu.tasks import conjugate_pairs
from insitu.theory.sequences.lagged_query import relaxed_minimum

__all__ = ["CLAIMS", "Lags"]

# The quantities that measurements estimate and rules decide.
FITTED_DISTANCE = "largest distance of a fitted minimum from the exact one"
LAST_QUERY_LOSS = "least loss per coordinate, query s_T"
EARLIER_QUERY_LOSS = "least loss per coordinate, query s_{T−1}"


@dataclass(frozen=True)
class Lags:
    """Sequences for the query s_T and for the query s_{T-1}."""

    dim: int
    lengths: tuple[int, ...]
    batch: int


def query_has_to_lag(run: Run, *, lag: int = 1) -> Measurement:
    """The least loss over free weights of every term, exactly and by least squares on samples, for several queries."""
    setting: Lags = run.setting
    worst, best, lines, gaps = 1.0, 0.0, [], []
    for colour, context in enumerate(CONTEXTS):
        for shift in (0, 1):
            exact = [relaxed_minimum(setting.dim, length, context, shift) for length in setting.lengths]
            name, hue = f"query T − {shift}, {context}", 2 * colour + shift
            lines.append(line(name, setting.lengths, exact, look="dashed", colour=hue))
            sampled = []
            for length in setting.lengths:
                s = sequences(run.seed / context / length, context, setting.dim, length, setting.batch)
                s = conjugate_pairs(s) if context == "orthogonal" else s
                sampled.append(fitted_minimum(s, length, shift))
            gaps += [abs(a - b) for a, b in zip(exact, sampled, strict=True)]
            lines.append(line("", setting.lengths, sampled, look="points", colour=hue))
            if shift == lag:
                best = max(best, *exact)
            else:
                worst = min(worst, *exact)
    figure = Figure(
        (Panel("length T", "least loss per coordinate", tuple(lines)),),
        "The least loss when every term of diagonal heads has a free weight, for queries s_T and s_{T−1}: exact, and "
        "fitted to samples.",
        "Two curves at one for the last token as the query, two at zero for the one before.",
    )
    estimates = {
        LAST_QUERY_LOSS: Estimate(worst),
        EARLIER_QUERY_LOSS: Estimate(best),
        FITTED_DISTANCE: Estimate(max(gaps)),
    }
    return Measurement(estimates, figure)


def fitted_minimum(s: Tensor, length: int, lag: int) -> float:
    """Least squares of the first coordinate's target on all terms, their weights real."""
    terms = s[:, length - 1 - lag, None].conj() * s[:, :length] * s[:, :length, :1]
    columns = torch.view_as_real(terms.flatten(1)).transpose(1, 2).flatten(0, 1)
    target = torch.view_as_real(s[:, length, 0].contiguous()).flatten()
    weights = torch.linalg.lstsq(columns, target[:, None], driver="gelsd").solution
    # The mean square of the residuals over the remaining degrees of freedom.
    rest = (columns @ weights - target[:, None]).square().sum() / (len(target) - columns.shape[1])
    return 2 * rest.item()


CLAIMS = (
    Claim(
        id="sander2024.query-has-to-lag",
        statement="With the last token as the query, no weights of diagonal heads do better than answering zero. With "
        "the token before it as the query, they solve the task.",
        source="Plain tokens, definition of the layer; derived here",
        rules=(
            Rule(LAST_QUERY_LOSS, low=0.99),
            Rule(EARLIER_QUERY_LOSS, high=1e-9),
            Rule(FITTED_DISTANCE, high=0.02),
        ),
        measure=query_has_to_lag,
        quick=Lags(dim=4, lengths=(2, 3, 4, 6), batch=10_000),
        full=Lags(dim=4, lengths=(2, 3, 4, 6, 10, 20), batch=50_000),
        quick_seconds=0.93,
        full_hours=0.01,
    ),
)
