r"""Shen, Mishra, Khashabi: Do pretrained Transformers Learn In-Context by Gradient Descent? (ICML 2024).

The paper asks whether a language model pretrained on natural text answers, after :math:`N` demonstrations in its
context, as gradient descent on the same demonstrations would make it answer. One road needs no accuracy at all. If
an algorithm :math:`\mathcal A` were equivalent to in-context learning, then for any two orders
:math:`\sigma, \sigma'` of the demonstrations

.. math:: p^{\mathrm{ICL}}_\sigma - p^{\mathrm{ICL}}_{\sigma'} = p^{\mathcal A}_\sigma - p^{\mathcal A}_{\sigma'}

(its Theorem 1). Full-batch gradient descent sums over the demonstrations and so depends on no order; it can be
equivalent only to in-context learning that depends on none either. The sensitivity
:func:`~insitu.compare.distributions.sensitivity` measures that.

Demonstrations and questions are drawn among the texts that are short enough for the context window; no drawn prompt
is ever skipped or cut. Every interval is over demonstration sets, which are drawn independently, on the same questions.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Paper, Rule, Run, line
from insitu.compare import Estimate
from insitu.compare.distributions import kl_divergence, overlap_cosine, sensitivity, token_overlap
from insitu.language import (
    TEMPLATES,
    Corpus,
    Labelled,
    LanguageModel,
    Template,
    Weights,
    draw_orders,
    fine_tune,
    in_context,
    load_corpus,
    load_language_model,
    zero_shot,
)
from insitu.seed import Seed

__all__ = ["PAPER"]

Orders = Callable[[Seed, int, int], Int[Tensor, "order shot"]]
Overlap = Callable[[Tensor, Tensor], Tensor]
# Takes what fine_tune takes.
Descent = Callable[..., Iterator[Weights]]


@final
@dataclass(frozen=True)
class Laboratory:
    """What every claim starts from: a model, texts that fit its window, and questions."""

    model: LanguageModel
    corpus: Corpus
    template: Template
    texts: tuple[str, ...]


def prepare(run: Run, *, longest: int, items: int) -> Laboratory:
    model = load_language_model("stories260K", device=run.device)
    corpus = load_corpus("subj").where(lambda text: len(model.encode(text)) <= longest)
    questions = corpus.questions(run.seed / "questions", items)
    return Laboratory(model, corpus, TEMPLATES["subj"], tuple(row.text for row in questions))


def read_orders(
    laboratory: Laboratory, demonstrations: Sequence[Labelled], orders: Int[Tensor, "order shot"]
) -> Float[Tensor, "order item token"]:
    """In-context answers after the same demonstrations in several orders."""
    shown = [[demonstrations[i] for i in order] for order in orders.tolist()]
    lab = laboratory
    return torch.stack([in_context(lab.model, lab.template, s, lab.texts) for s in shown])


# Order sensitivity


@final
@dataclass(frozen=True)
class OrderSetting:
    """How order sensitivity is measured.

    Args:
        sets: How many demonstration sets.
        shots: How many demonstrations each holds.
        orders: In how many orders each is read and trained on.
        items: How many test texts are asked about.
        longest: The most tokens that a text may have.
        rate: The rate of gradient descent.
        epochs: After how many epochs to look.
    """

    sets: int
    shots: int
    orders: int
    items: int
    longest: int
    rate: float
    epochs: tuple[int, ...]


@final
@dataclass(frozen=True)
class Sensitivities:
    """What one demonstration set gives, as means over the questions.

    Args:
        reading: The sensitivity of reading in context.
        reading_replay: That of reading one order twice, together with other prompts and alone.
        descent: The sensitivity of training, at every epoch looked at.
        descent_replay: That of training in one order twice, at the last epoch.
        travelled: The divergence from the answers before training, at every epoch looked at.
        certainty: The probability of the most probable token after training.
    """

    reading: float
    reading_replay: float
    descent: Float[Tensor, " epoch"]
    descent_replay: float
    travelled: Float[Tensor, " epoch"]
    certainty: float


def measure_order_stability(run: Run, *, descent: Descent = fine_tune) -> Measurement:
    """Sensitivity to the order of reading, and of training, the same demonstrations."""
    s: OrderSetting = run.setting
    lab = prepare(run, longest=s.longest, items=s.items)
    found = [measure_set(lab, s, run.seed / "set" / i, descent) for i in range(s.sets)]
    reading = torch.tensor([f.reading for f in found], dtype=torch.float64)
    replay = torch.tensor([f.reading_replay for f in found], dtype=torch.float64)
    trained = torch.stack([f.descent for f in found])
    travelled = torch.stack([f.travelled for f in found])
    # The epoch at which descent depends on the order most: the least favourable one for the claim.
    worst = trained.max(1).values
    estimates = {
        "Sen(GD) / Sen(ICL)": Estimate.ratio(worst, reading),
        "replay floor / Sen(ICL)": Estimate.ratio(replay, reading),
        "Sen(GD)": Estimate.mean(worst),
        "KL from the start, in nats": Estimate.mean(travelled[:, -1]),
    }
    again = max(f.descent_replay for f in found)
    certainty = sum(f.certainty for f in found) / len(found)
    notes = (
        f"Sen(ICL) = {reading.mean():.3g} and Sen(GD) = {worst.mean():.3g} at its largest epoch; the paper shows about "
        "0.10 to 0.15 and 0.01 to 0.05 for LLaMA-7B on AGNews.",
        f"Reading the same order again, one prompt at a time, gives Sen = {replay.mean():.2g}; training on the same "
        f"order again gives {again:.2g}.",
        f"After training the most probable token has {certainty:.2f} on average: answers that all were certain "
        "would be stable for no good reason.",
        f"Demonstrations and questions are among the texts of at most {s.longest} tokens: "
        f"{len(lab.corpus.train)} to demonstrate with, {len(lab.corpus.test)} to ask about.",
    )
    return Measurement(estimates, draw_stability(s, reading, replay, trained, travelled), notes)


def measure_set(lab: Laboratory, s: OrderSetting, place: Seed, descent: Descent) -> Sensitivities:
    demonstrations = lab.corpus.demonstrate(place / "demonstrations", s.shots)
    orders = draw_orders(place / "orders", s.shots, s.orders)
    reading = read_orders(lab, demonstrations, orders)
    first = [demonstrations[i] for i in orders[0].tolist()]
    alone = in_context(lab.model, lab.template, first, lab.texts, batch=1)
    trained = torch.stack([train(lab, s, [demonstrations[i] for i in order], descent) for order in orders.tolist()])
    again = train(lab, s, first, descent)
    start = zero_shot(lab.model, lab.template, lab.texts)
    return Sensitivities(
        reading=sensitivity(reading).mean().item(),
        reading_replay=sensitivity(torch.stack([reading[0], alone])).mean().item(),
        descent=torch.stack([sensitivity(trained[:, e]).mean() for e in range(len(s.epochs))]),
        descent_replay=sensitivity(torch.stack([trained[0, -1], again[-1]])).mean().item(),
        travelled=kl_divergence(trained, start.expand_as(trained)).mean((0, 2)),
        certainty=trained[:, -1].amax(-1).mean().item(),
    )


def train(
    lab: Laboratory, s: OrderSetting, demonstrations: Sequence[Labelled], descent: Descent
) -> Float[Tensor, "epoch item token"]:
    """Zero-shot answers after training on demonstrations, at every epoch looked at."""
    passes = descent(lab.model, lab.template, demonstrations, rate=s.rate, epochs=s.epochs)
    return torch.stack([zero_shot(lab.model, lab.template, lab.texts, weights=w) for w in passes])


def draw_stability(s: OrderSetting, reading: Tensor, replay: Tensor, trained: Tensor, travelled: Tensor) -> Figure:
    def level(values: Tensor) -> list[float]:
        return [values.mean().item()] * len(s.epochs)

    lines = [
        line("reading in context", s.epochs, level(reading), look="dashed", colour=0),
        line("gradient descent", s.epochs, trained.mean(0), low=trained.amin(0), high=trained.amax(0), colour=1),
        line("reading, same order again", s.epochs, level(replay), look="dotted", colour=0),
        line("bound of the claim", s.epochs, [FLOOR] * len(s.epochs), look="dotted", colour=-1),
    ]
    # A sensitivity of exactly 0 has no place on a logarithmic axis.
    shown = tuple(curve for curve in lines if min(curve.y) > 0)
    sen = Panel("epochs of gradient descent", "order sensitivity Sen", shown, y_scale="log")
    moved = Panel(
        "epochs of gradient descent",
        "KL from the start (nats)",
        (line("", s.epochs, travelled.mean(0), low=travelled.amin(0), high=travelled.amax(0), colour=1),),
    )
    return Figure(
        (sen, moved),
        caption=f"Left: how much answers depend on the order of the same {s.shots} demonstrations, over {s.orders} "
        "orders: read in context, and trained on with full-batch gradient descent, answering zero-shot. Right: how far "
        f"training has moved the answers. Means and ranges over {s.sets} demonstration sets.",
        alt="Two panels over epochs of training. Left, on a logarithmic axis, the order sensitivity of reading in "
        "context is a horizontal line orders of magnitude above the curve of gradient descent, which lies at the level "
        "of rounding. Right, the divergence of the trained answers from the starting ones.",
    )


FLOOR = 1e-3

ORDER_STABLE = Claim(
    id="shen2024.full-batch-descent-is-order-stable",
    statement=(
        "What a pretrained language model answers in context depends on the order of the demonstrations; what it "
        "answers after full-batch gradient descent on the same demonstrations does not, though training has moved it. "
        "So the two are not the same algorithm."
    ),
    source="Section 4, Theorem 1, Figure 4",
    rules=(
        # The paper shows a factor of 3 to 5 or more.
        Rule(
            "Sen(GD) / Sen(ICL)",
            high=1 / 3,
            printed="1/5 to 1/3 (0.01-0.05 against 0.10-0.15; LLaMA-7B, AGNews, N = 8)",
        ),
        Rule("replay floor / Sen(ICL)", high=0.1),
        # Exactly zero but for the rounding of float32 (6e-8), which training amplifies; a tenth of the least that
        # the paper shows for any descent, and far above rounding.
        Rule("Sen(GD)", high=FLOOR, printed="about 0.01-0.02, 0.05 at worst (LLaMA-7B, AGNews, N = 8)"),
        # A network that does not move is stable for no good reason.
        Rule("KL from the start, in nats", low=0.01),
    ),
    measure=measure_order_stability,
    quick=OrderSetting(sets=3, shots=4, orders=10, items=6, longest=40, rate=5e-3, epochs=(1, 2, 3, 5)),
    full=OrderSetting(
        sets=10, shots=4, orders=10, items=64, longest=70, rate=5e-3, epochs=(1, 2, 5, 10, 20, 50, 100, 200)
    ),
    quick_seconds=15,
    full_hours=0.5,
    reduced=(
        "A model of 260,032 parameters that cannot classify instead of LLaMA-7B; subj instead of AGNews; 4 "
        "demonstrations instead of 8, and only texts of at most 40 tokens, because 512 tokens fit its window; 5 epochs "
        "instead of 200, at one rate, the largest of the paper's; full batch only."
    ),
)


# One demonstration


@final
@dataclass(frozen=True)
class OverlapSetting:
    """How the reference line of the overlaps is measured.

    Args:
        sets: How many demonstration sets for each number of demonstrations.
        shots: Numbers of demonstrations.
        orders: How many orders each is read in, at most; every pair of different ones is compared. One demonstration
            is read twice in its one order.
        items: How many test texts are asked about.
        longest: The most tokens that a text may have.
    """

    sets: int
    shots: tuple[int, ...]
    orders: int
    items: int
    longest: int


def measure_reference_line(
    run: Run, *, orders: Orders = draw_orders, overlap: Overlap = token_overlap, cosine: Overlap = overlap_cosine
) -> Measurement:
    """Overlaps of the answers between two orders of the same demonstrations."""
    s: OverlapSetting = run.setting
    lab = prepare(run, longest=s.longest, items=s.items)
    overlaps, cosines = (torch.empty(len(s.shots), s.sets, dtype=torch.float64) for _ in range(2))
    for row, shots in enumerate(s.shots):
        for i in range(s.sets):
            place = run.seed / "shots" / shots / "set" / i
            demonstrations = lab.corpus.demonstrate(place / "demonstrations", shots)
            count = min(s.orders, max(2, math.factorial(shots)))
            answers = read_orders(lab, demonstrations, orders(place / "orders", shots, count))
            one, other = answers[torch.combinations(torch.arange(count)).T]
            overlaps[row, i], cosines[row, i] = overlap(one, other).mean(), cosine(one, other).mean()
    named = {"token overlap": overlaps, "overlap cosine": cosines}
    estimates = {f"{name} at N = {s.shots[0]}": Estimate.mean(values[0]) for name, values in named.items()}
    ends = [f"{name} {values[-1].mean():.3f}" for name, values in named.items()]
    notes = (f"Between different orders of {s.shots[-1]} demonstrations: {', '.join(ends)} (means; no rule).",)
    return Measurement(estimates, draw_reference_line(s, overlaps, cosines), notes)


def draw_reference_line(s: OverlapSetting, overlaps: Tensor, cosines: Tensor) -> Figure:
    def panel(name: str, values: Tensor, colour: int) -> Panel:
        spread = line("", s.shots, values.mean(1), low=values.amin(1), high=values.amax(1), colour=colour)
        identity = line("", s.shots, [1.0] * len(s.shots), look="dotted", colour=-1)
        return Panel("demonstrations N", name, (spread, identity))

    return Figure(
        (panel("token overlap, top 10", overlaps, 0), panel("overlap cosine, top 10", cosines, 1)),
        caption="How much the answers after two different orders of the same demonstrations have in common: the "
        "reference line against which gradient descent is compared. One demonstration has one order, so there it is "
        f"exactly 1. Means and ranges over {s.sets} demonstration sets.",
        alt="Two panels against the number of demonstrations: the token overlap and the overlap cosine between two "
        "orders start at exactly 1 for one demonstration and are lower for more.",
    )


OWN_ORDER = Claim(
    id="shen2024.one-demonstration-is-its-own-order",
    statement=(
        "With one demonstration there is one order only, so the reference line, the token overlap and the overlap "
        "cosine of in-context answers between two orders of the same demonstrations, starts at exactly 1."
    ),
    source="Section 5, the reference line ICL against ICL",
    rules=(
        Rule("token overlap at N = 1", low=1.0, high=1.0, printed="1"),
        Rule("overlap cosine at N = 1", low=1.0, high=1.0, printed="1"),
    ),
    measure=measure_reference_line,
    quick=OverlapSetting(sets=12, shots=(1, 2, 4), orders=2, items=8, longest=40),
    full=OverlapSetting(sets=200, shots=(1, 2, 4), orders=10, items=16, longest=70),
    quick_seconds=8,
    full_hours=0.05,
    reduced=(
        "A model of 260,032 parameters that cannot classify instead of LLaMA-7B; subj instead of AGNews; at most 4 "
        "demonstrations instead of 8, and only texts of at most 40 tokens, because 512 tokens fit its window."
    ),
)


PAPER = Paper(
    id="shen2024",
    title="Do pretrained Transformers Learn In-Context by Gradient Descent?",
    authors="Lingfeng Shen, Aayush Mishra, Daniel Khashabi",
    venue="ICML 2024",
    claims=(ORDER_STABLE, OWN_ORDER),
)
