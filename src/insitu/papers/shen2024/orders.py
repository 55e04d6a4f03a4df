r"""Whether reading and training depend on the order of the demonstrations alike.

If an algorithm :math:`\mathcal A` were equivalent to in-context learning, then for any two orders
:math:`\sigma, \sigma'` of the demonstrations

.. math:: p^{\mathrm{ICL}}_\sigma - p^{\mathrm{ICL}}_{\sigma'} = p^{\mathcal A}_\sigma - p^{\mathcal A}_{\sigma'}

(Theorem 1). Full-batch gradient descent sums over the demonstrations and so depends on no order; it can be equivalent
only to in-context learning that depends on none either. All claims here look at one study, :func:`order_profiles`.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, Study, line
from insitu.language import Answers, Descent, read
from insitu.language.measure.bench import Bench
from insitu.language.measure.order import Profile, described, read_orders, train_orders
from insitu.language.measure.unfinished import Unfinished
from insitu.metrics import Estimate
from insitu.papers.shen2024.setting import AGNEWS, REDUCED, SMOLLM2, TextSource, look, missing_source, power, prepare

__all__ = ["CLAIMS", "OrderSetting", "Profiles", "order_profiles"]

READING = "in context"
STOCHASTIC = ("sgd1", "sgd2", "sgd4", "adam")

# The quantities that rules bound.
FLOOR_RATIO = "replay floor / Sen(ICL)"
SEN_ICL = "Sen(ICL)"
SEN_GD = "Sen(GD)"
SEN_RATIO = "Sen(GD) / Sen(ICL)"
KL_FROM_START = "KL from the start, in nats"
BATCH_1_OVER_2 = "Sen(batch 1) - Sen(batch 2)"
BATCH_2_OVER_4 = "Sen(batch 2) - Sen(batch 4)"
BATCH_4_OVER_FULL = "Sen(batch 4) - Sen(full batch)"
DIFFERENCE_FULL = "difference, full batch"
COSINE_FULL = "cosine, full batch"
DIFFERENCE_ONE = "difference, batch 1"
COSINE_ONE = "cosine, batch 1"


def sensitivity_ratio(arm: str) -> str:
    """The quantity of one way of fine-tuning."""
    return f"Sen({arm}) / Sen(ICL)"


@dataclass(frozen=True)
class OrderSetting:
    """How order sensitivity is measured.

    Args:
        source: The model and the texts.
        sets: How many demonstration sets are read and trained on.
        more: How many others are read alone.
        shots: How many demonstrations each holds.
        orders: In how many orders each is read and trained on.
        items: How many test texts are classified.
        replays: How many of them are read again, one at a time.
        descents: The ways of training.
        epochs: After how many epochs to look.
    """

    source: TextSource
    sets: int
    more: int
    shots: int
    orders: int
    items: int
    replays: int
    descents: tuple[Descent, ...]
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class Profiles:
    """What the study finds, by arm: means over the questions, for each demonstration set and epoch.

    Args:
        measures: Of every arm its measures, see :mod:`insitu.language.measure.order`; reading has one epoch, and sets
            behind those that are trained on.
        floors: Of reading the sensitivity between the same order twice, for each demonstration set; of full-batch
            descent for the first.
    """

    measures: Mapping[str, Mapping[str, Tensor]]
    floors: Mapping[str, Tensor]

    def __getitem__(self, arm: str) -> Mapping[str, Tensor]:
        return self.measures[arm]

    @property
    def reading(self) -> Tensor:
        """The sensitivity of reading, for each demonstration set that is trained on."""
        trained = min(len(own["Sen"]) for own in self.measures.values())
        return self.measures[READING]["Sen"][:trained, 0]

    def worst(self, arm: str) -> Tensor:
        """The sensitivity of an arm at the epoch where it is largest: the least favourable one for the claims."""
        return self.measures[arm]["Sen"].amax(1)


def order_profiles(run: Run) -> Profiles:
    """Read and train on the same demonstrations in several orders."""
    s: OrderSetting = run.setting
    bench = prepare(run, s.source, shots=s.shots, items=s.items)
    kept = Unfinished(run.folder)
    start = kept.piece("zero-shot").once(
        Answers, lambda: read(bench.model, bench.template, (), bench.texts, batch=bench.batch)
    )
    rows: dict[str, list[dict[str, list[float]]]] = {}
    floors: dict[str, list[float]] = {}
    for number in range(s.sets + s.more):
        own = OneSet(bench, s, number, start, run.folder)
        for how in (None, *(s.descents if number < s.sets else ())):
            row = own.row(how)
            arm = READING if how is None else how.name
            rows.setdefault(arm, []).append(row["measures"])
            if math.isfinite(row["replay floor"]):
                floors.setdefault(arm, []).append(row["replay floor"])
    measures = {
        arm: {name: torch.tensor([row[name] for row in own], dtype=torch.float64) for name in own[0]}
        for arm, own in rows.items()
    }
    return Profiles(measures, {arm: torch.tensor(own, dtype=torch.float64) for arm, own in floors.items()})


@final
class OneSet:
    """One demonstration set in several orders, read and trained on; what is worked out is kept between sittings.

    Args:
        bench: The model with its questions.
        setting: Numbers of orders, ways of training and epochs.
        number: Which demonstration set.
        start: The zero-shot answers.
        folder: Where pieces are kept; nowhere if none.
    """

    def __init__(self, bench: Bench, setting: OrderSetting, number: int, start: Answers, folder: Path | None) -> None:
        self.bench, self.setting, self.number, self.start, self.folder = bench, setting, number, start, folder
        self.shown = bench.demonstrate(number, setting.shots)
        self.orders = bench.orders(number, setting.shots, setting.orders)

    def kept(self, what: str) -> Unfinished:
        """Where something of this set is kept."""
        return Unfinished(self.folder, content={"set": self.number, "of": what})

    @functools.cached_property
    def reading(self) -> Profile:
        """The answers in context."""
        return read_orders(self.bench, self.shown, self.orders, self.setting.replays, self.kept(READING))

    def row(self, how: Descent | None) -> dict[str, Any]:
        """The measures of reading or of a way of training."""
        place = self.kept("rows").piece(READING if how is None else how.name)
        return place.once(dict, lambda: described(self.bench, self.profile(how), self.reading, self.start.tokens))

    def profile(self, how: Descent | None) -> Profile:
        """The answers of reading, or after a way of training."""
        if how is None:
            return self.reading
        kept, replay = self.kept(how.name), self.number == 0 and how.name == "gd"
        profile = train_orders(self.bench, self.shown, self.orders, how, self.setting.epochs, replay=replay, kept=kept)
        kept.forget()
        return profile


PROFILES = Study("shen2024.order_profiles", order_profiles)


def measure_reading(run: Run, *, arm: str = READING) -> Measurement:
    """How much reading depends on the order."""
    profiles: Profiles = run.study
    sen, floor = profiles[arm]["Sen"][:, -1], profiles.floors[READING]
    estimates = {SEN_ICL: Estimate.mean(sen), FLOOR_RATIO: ratio(floor, sen)}
    return Measurement(estimates, draw(run, profiles), (levels_note(profiles), power(estimates)))


def ratio(above: Tensor, below: Tensor) -> Estimate:
    """The ratio of means; infinite where nothing is below."""
    return Estimate.ratio(above, below) if below.mean() > 0 else Estimate(float("inf"))


def levels_note(profiles: Profiles) -> str:
    arms = [f"{arm} {profiles.worst(arm).mean():.2g}" for arm in profiles.measures]
    return (
        f"Sen at its largest epoch, mean over sets: {', '.join(arms)}; the paper shows about 0.10 to 0.15 in context "
        "and 0.01 to 0.05 for descent (LLaMA-7B, AGNews, N = 8)."
    )


def measure_full_batch(run: Run, *, arm: str = "gd") -> Measurement:
    """How much full-batch descent depends on the order, beside reading."""
    profiles: Profiles = run.study
    worst = profiles.worst(arm)
    estimates = {
        SEN_RATIO: ratio(worst, profiles.reading),
        FLOOR_RATIO: ratio(profiles.floors[READING], profiles[READING]["Sen"][:, 0]),
        SEN_GD: Estimate.mean(worst),
        KL_FROM_START: Estimate.mean(profiles[arm]["KL from the start"][:, -1]),
    }
    again = profiles.floors[arm].max()
    notes = (levels_note(profiles), f"Training in the same order again gives Sen = {again:.2g}.", power(estimates))
    return Measurement(estimates, draw(run, profiles), notes)


def measure_stochastic(run: Run, *, arms: tuple[str, ...] = STOCHASTIC) -> Measurement:
    """How much descent by mini-batches and Adam depend on the order, beside reading."""
    profiles: Profiles = run.study
    estimates = {
        sensitivity_ratio(arm): ratio(profiles.worst(a), profiles.reading)
        for arm, a in zip(STOCHASTIC, arms, strict=True)
    }
    moved = [f"{arm} {profiles[arm]['KL from the start'][:, -1].mean():.2g}" for arm in arms]
    notes = (
        f"KL from the start at the last epoch, in nats: {', '.join(moved)}. Sensitivity grows with the distance "
        "travelled, so the verdict belongs to these rates and epochs.",
        power(estimates),
    )
    return Measurement(estimates, draw(run, profiles), notes)


def measure_batches(run: Run, *, arms: tuple[str, ...] = ("sgd1", "sgd2", "sgd4", "gd")) -> Measurement:
    """Whether sensitivity falls with the size of the batch, at the last epoch."""
    profiles: Profiles = run.study
    ends = [profiles[arm]["Sen"][:, -1] for arm in arms]
    names = (BATCH_1_OVER_2, BATCH_2_OVER_4, BATCH_4_OVER_FULL)
    estimates = {name: Estimate.mean(a - b) for name, a, b in zip(names, ends, ends[1:], strict=False)}
    note = f"Sen at the last epoch: {', '.join(f'{a} {e.mean():.2g}' for a, e in zip(arms, ends, strict=True))}."
    return Measurement(estimates, draw(run, profiles), (note, power(estimates)))


def measure_theorem(run: Run, *, arm: str = "gd", other: str = "sgd1") -> Measurement:
    """Theorem 1 as numbers: the difference of the two changes with the order, relative to that of reading."""
    profiles: Profiles = run.study
    estimates = {
        DIFFERENCE_FULL: Estimate.mean(profiles[arm]["Theorem 1: difference"][:, -1]),
        COSINE_FULL: Estimate.mean(profiles[arm]["Theorem 1: cosine"][:, -1]),
        DIFFERENCE_ONE: Estimate.mean(profiles[other]["Theorem 1: difference"][:, -1]),
        COSINE_ONE: Estimate.mean(profiles[other]["Theorem 1: cosine"][:, -1]),
    }
    return Measurement(estimates, draw(run, profiles), (power(estimates),))


def measure_second(run: Run, *, arm: str = "gd") -> Measurement:
    """The ratio of sensitivities on another model."""
    profiles: Profiles = run.study
    # Not the other way round: what full-batch descent leaves is rounding, and no interval holds with it below the line.
    estimates = {SEN_RATIO: ratio(profiles.worst(arm), profiles.reading)}
    return Measurement(estimates, draw(run, profiles), (levels_note(profiles), power(estimates)))


def draw(run: Run, profiles: Profiles) -> Figure:
    s: OrderSetting = run.setting
    arms = [arm for arm in profiles.measures if arm != READING]
    panels = []
    for name, label in (("Sen", "order sensitivity Sen"), ("KL from the start", "KL from the start (nats)")):
        own = profiles[READING][name].mean().item()
        lines = [line("in context", s.epochs, [own] * len(s.epochs), look="dashed", colour=-1)]
        lines += [
            line(arm, s.epochs, v.mean(0), low=v.amin(0), high=v.amax(0), look=look(s.epochs), colour=i)
            for i, arm in enumerate(arms)
            if (v := profiles[arm][name]).min() > 0
        ]
        panels.append(Panel("epochs of training", label, tuple(lines), y_scale="log"))
    return Figure(
        tuple(panels),
        caption=f"Left: how much answers depend on the order of the same {s.shots} demonstrations, over {s.orders} "
        "orders: read in context, and trained on by descent with the full batch, with mini-batches and by Adam, "
        "answered zero-shot. Right: how far the answers are from those before. Means and ranges over demonstration "
        f"sets, {s.sets} for fine-tuning and {s.sets + s.more} in context.",
        alt="Two panels over epochs of training, both logarithmic. Left, the order sensitivity of every way of "
        "fine-tuning beside the level of in-context learning. Right, the divergence from the answers before training.",
    )


# Of the rates that the paper sweeps, those after which the labels of other questions, with other demonstrations than
# the records', were most probable. Adam moves every weight by about its rate in every step.
ARMS = (Descent(5e-4), Descent(5e-4, 1), Descent(5e-4, 2), Descent(5e-4, 4), Descent(1e-4, None, "adam"))
QUICK = OrderSetting(SMOLLM2, sets=5, more=9, shots=8, orders=2, items=6, replays=2, descents=ARMS, epochs=(1,))
LOOKS = (1, 2, 5, 10, 20, 50, 100, 200)
FULL = OrderSetting(AGNEWS, sets=3, more=0, shots=8, orders=10, items=250, replays=250, descents=ARMS, epochs=LOOKS)
SECOND = OrderSetting(
    TextSource("stories260K", "subj", "subj", 40),
    sets=6,
    more=0,
    shots=4,
    orders=4,
    items=6,
    replays=6,
    descents=(Descent(5e-3),),
    epochs=(1, 5),
)
SECOND_FULL = OrderSetting(
    TextSource("EleutherAI/gpt-j-6b", "hub:fancyzhx/ag_news", "agnews"),
    sets=3,
    more=0,
    shots=8,
    orders=10,
    items=250,
    replays=250,
    descents=(Descent(1e-4),),
    epochs=(1, 10, 100, 200),
)
SMALLER = (
    f"{REDUCED}; {QUICK.orders} orders instead of 10, over which a standard deviation is a fifth smaller on average; "
    "one epoch instead of 200, one rate for each optimiser."
)
FLOOR = 1e-3
EVERY_BATCH = "each about 0.01 to 0.02, 0.05 at worst (LLaMA-7B, AGNews, N = 8)"

claim = functools.partial(
    Claim,
    quick=QUICK,
    full=FULL,
    quick_gigabytes=2.4,
    reduced=SMALLER,
    study=PROFILES,
    missing=missing_source,
    version=2,
)

CLAIMS = (
    claim(
        id="shen2024.reading-depends-on-order",
        statement=(
            "What a pretrained language model answers in context depends on the order of the same demonstrations, by "
            "far more than rounding: over orders the probabilities of all tokens spread by a tenth and more."
        ),
        source="Section 4, Figure 4",
        rules=(
            Rule(FLOOR_RATIO, high=0.1),
            Rule(SEN_ICL, low=0.1, printed="about 0.10-0.15 (LLaMA-7B, AGNews, N = 8)"),
        ),
        measure=measure_reading,
        quick_seconds=135,
        full_hours=10,
    ),
    claim(
        id="shen2024.full-batch-descent-is-order-stable",
        statement=(
            "What a pretrained language model answers in context depends on the order of the demonstrations; what it "
            "answers after full-batch gradient descent on the same demonstrations does not, though training has moved "
            "it. So the two are not the same algorithm."
        ),
        source="Section 4, Theorem 1, Figure 4",
        rules=(
            # The paper shows a factor of 3 to 5 or more.
            Rule(
                SEN_RATIO,
                high=1 / 3,
                printed="1/5 to 1/3 (0.01-0.05 against 0.10-0.15; LLaMA-7B, AGNews, N = 8)",
            ),
            Rule(FLOOR_RATIO, high=0.1),
            # Exactly zero but for the rounding of float32 (6e-8), which training amplifies; a tenth of the least that
            # the paper shows for any descent, and far above rounding.
            Rule(SEN_GD, high=FLOOR, printed="about 0.01-0.02, 0.05 at worst (LLaMA-7B, AGNews, N = 8)"),
            # A network that does not move is stable for no good reason.
            Rule(KL_FROM_START, low=0.01),
        ),
        measure=measure_full_batch,
        quick_seconds=1,
        full_hours=0.1,
        version=3,
    ),
    claim(
        id="shen2024.stochastic-descent-is-order-stable",
        statement=(
            "Descent with batches of 1, 2 and 4 demonstrations and Adam depend on the order of the demonstrations "
            "too, but at every epoch at most a third as much as in-context learning does."
        ),
        source="Section 4, Figures 4 and 6",
        rules=tuple(
            Rule(sensitivity_ratio(arm), high=1 / 3, printed="1/5 to 1/3 (LLaMA-7B, AGNews, N = 8)")
            for arm in STOCHASTIC
        ),
        measure=measure_stochastic,
        quick_seconds=1,
        full_hours=0.1,
    ),
    claim(
        id="shen2024.smaller-batches-depend-more-on-order",
        statement=(
            "The smaller the batch of descent, the more its answers depend on the order of the demonstrations: batches "
            "of 1 more than of 2, of 2 more than of 4, of 4 more than the full batch."
        ),
        source="Section 4, Figure 6",
        rules=(
            Rule(BATCH_1_OVER_2, low=0.0, printed=EVERY_BATCH),
            Rule(BATCH_2_OVER_4, low=0.0, printed=EVERY_BATCH),
            Rule(BATCH_4_OVER_FULL, low=0.0, printed=EVERY_BATCH),
        ),
        measure=measure_batches,
        quick_seconds=1,
        full_hours=0.1,
    ),
    claim(
        id="shen2024.changes-with-order-do-not-cancel",
        statement=(
            "An algorithm equivalent to in-context learning would change its answers with the order of the "
            "demonstrations exactly as in-context learning does. Descent does not: its changes cancel nothing of "
            "those and point elsewhere."
        ),
        source="Section 4, Theorem 1",
        rules=(
            # 0 for an equivalent algorithm, 1 for one that depends on no order, more for one that depends otherwise.
            Rule(DIFFERENCE_FULL, low=0.9),
            Rule(COSINE_FULL, low=-0.1, high=0.1),
            Rule(DIFFERENCE_ONE, low=0.9),
            Rule(COSINE_ONE, low=-0.1, high=0.1),
        ),
        measure=measure_theorem,
        quick_seconds=1,
        full_hours=0.1,
    ),
    Claim(
        id="shen2024.another-model-depends-on-order-too",
        statement=(
            "On another pretrained model in-context learning depends on the order of the demonstrations more than "
            "full-batch descent does, too."
        ),
        source="Section 4 and appendix: Qwen-7B, GPT-J",
        rules=(Rule(SEN_RATIO, high=1.0, printed="1/5 to 1/3 and less (Qwen-7B, GPT-J)"),),
        measure=measure_second,
        quick=SECOND,
        full=SECOND_FULL,
        quick_seconds=3,
        full_hours=3,
        reduced=(
            "stories260K, a Llama of 260,032 parameters trained on other text with another tokeniser, instead of "
            "another architecture of 7B; subj instead of AGNews; 4 demonstrations, 4 orders, 5 epochs."
        ),
        study=PROFILES,
        version=2,
    ),
)
