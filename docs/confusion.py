"""Writes the table of docs/identify.md: how far every fitted candidate is from the answers of every learner.

python docs/confusion.py            write it (about half a minute)
"""

from collections.abc import Iterator
from pathlib import Path

from marked import with_part

from insitu import Seed
from insitu.identification import Answered, Identification, identify
from insitu.identification.diagnostics import Plan, diagnostic_prompts
from insitu.identification.scoring import predicted
from insitu.kinds import kinds_below
from insitu.learners import Learner, learner

PAGE = Path(__file__).parent / "identify.md"
# Every kind that is fitted, at least once.
PANEL = (
    "Mean()",
    "RecentMean(forgetting=0.7)",
    "NearestNeighbours(k=3)",
    "KernelSmoother(bandwidth=0.8)",
    "LeastSquares()",
    "Ridge(penalty=0.25)",
    "GradientDescent(steps=1, rate=0.4)",
    "GradientDescent(steps=6, rate=0.15)",
    "GradientDescent(steps=3, rate=(0.4, 0.2, 0.1))",
    "GradientDescent(steps=2, rate=1.0, preconditioner=((0.3, 0.1, 0.0), (0.1, 0.2, 0.0), (0.0, 0.0, 0.4)))",
    "OnlineDescent(rate=0.08, decay=0.0, passes=1)",
    "OnlineDescent(rate=0.2, decay=0.5, passes=2)",
    "Kaczmarz(passes=1)",
    "Kaczmarz(passes=3)",
    "CausalDescent(steps=4, rate=0.5)",
    "Newton(steps=4)",
    "Ridge(penalty=0.5, intercept=True)",
    "RecursiveLeastSquares(forgetting=0.9, penalty=0.5)",
    "PrincipalComponents(k=2)",
    "ConjugateGradient(steps=2)",
    "Momentum(steps=4, rate=0.15, momentum=0.5)",
    "GradientDescentPlus(steps=3, rate=0.2, curvature=0.1)",
    "SoftmaxSmoother(scale=0.8)",
    "GaussianProcess(length_scale=1.5, penalty=0.1, kernel='rbf')",
    "NoiseMixture(noises=(0.2, 1.0), weight_std=1.0)",
)


def recognised(truth: str) -> Identification:
    """The identification of a learner by its answers to diagnostic prompts in three dimensions."""
    given, seed = learner(truth), Seed(0) / "confusion"
    asked = diagnostic_prompts(Plan(dim=3, points=(2, 7), count=16), seed)
    return identify([Answered(a.prompt, predicted(given, a.prompt), a.names) for a in asked])


def distances(found: Identification) -> dict[str, float]:
    """The distance of the nearest candidate of every kind."""
    kinds: dict[str, float] = {}
    for candidate in found.ranking:
        kind = type(candidate.learner).__name__
        kinds[kind] = min(candidate.score.distance, kinds.get(kind, float("inf")))
    return kinds


def lines() -> Iterator[str]:
    """The table, line by line."""
    rows = {truth: distances(recognised(truth)) for truth in PANEL}
    kinds = [kind for kind in kinds_below(Learner) if any(kind in row for row in rows.values())]
    yield f"| answers of | {' | '.join(kinds)} |"
    yield "|---" * (len(kinds) + 1) + "|"
    for truth, row in rows.items():
        yield f"| `{truth}` | {' | '.join(entry(row.get(kind)) for kind in kinds)} |"


def entry(distance: float | None) -> str:
    """A distance below rounding as a zero in bold; a dash for a kind that answers as a simpler one and is left out."""
    if distance is None:
        return "–"
    return "**0**" if distance < 1e-12 else f"{distance:.2g}" if distance < 100 else "> 100"


def main() -> None:
    """Write the table."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_part(page, "confusion", "confusion.py", "\n".join(lines())), encoding="utf-8")


if __name__ == "__main__":
    main()
