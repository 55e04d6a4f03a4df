r"""Order sensitivity of reading and of training, ``insitu lm order``.

Theorem 1 of Shen et al. (2024): an algorithm equivalent to in-context learning changes its answers with the order of
the demonstrations exactly as reading does. Measured here, over pairs of orders: the difference between the two changes,
relative to the change of reading, is 0 for an equivalent algorithm and 1 for one that does not depend on order.
"""

import functools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from insitu.errors import InputError
from insitu.language import (
    WHOLE,
    Answers,
    Descent,
    Labelled,
    Reader,
    read,
    require_trainable,
    runs_at_once,
)
from insitu.language.measure.bench import Bench, fallback, shown_for
from insitu.language.measure.compare import Kept, arm_name
from insitu.language.measure.trainings import train_and_answer
from insitu.language.measure.unfinished import NOWHERE, Piece, Unfinished
from insitu.language.models.forwards import distinct
from insitu.metrics.distributions import kl_divergence, sensitivity

__all__ = [
    "READING",
    "Orders",
    "Profile",
    "described",
    "order_sensitivity",
    "profile_difference",
    "read_orders",
    "train_orders",
]

READING = "in context"
KIND = "lm order"


@final
@dataclass(frozen=True)
class Orders:
    """What is measured.

    Args:
        shots: How many demonstrations.
        sets: How many demonstration sets.
        orders: In how many orders each is read and trained on.
        descents: The ways of training.
        epochs: After how many passes to look, in rising order.
    """

    shots: int
    sets: int
    orders: int
    descents: tuple[Descent, ...]
    epochs: tuple[int, ...]


@final
@dataclass(frozen=True, eq=False)
class Profile:
    """Answers after several orders of the same demonstrations.

    Args:
        tokens: The distributions; reading has one epoch.
        labels: The log-probabilities of the label words.
        again: The distributions of the first order once more, at the last epoch, by themselves, for the first questions
            or all: what rounding makes.
    """

    tokens: Float[Tensor, "epoch order item token"]
    labels: Float[Tensor, "epoch order item label"]
    again: Float[Tensor, "some token"]

    @property
    def floor(self) -> float:
        """The sensitivity between the same order twice; not a number where nothing was done twice."""
        if not len(self.again):
            return math.nan
        same = self.tokens[-1, 0, : len(self.again)]
        return sensitivity(torch.stack([same, self.again])).mean().item()


def read_orders(
    bench: Bench,
    shown: Sequence[Labelled],
    orders: Int[Tensor, "order shot"],
    replays: int | None = None,
    kept: Unfinished = NOWHERE,
) -> Profile:
    """In-context answers after every order; once more, for the first ``replays`` questions or all, one at a time.

    ``kept`` says where answers are kept between sittings.
    """
    arranged = [[shown[i] for i in order] for order in orders.tolist()]

    def answers(own: Sequence[Labelled], piece: Piece) -> Answers:
        return piece.once(Answers, lambda: read(bench.model, bench.template, own, bench.texts, batch=bench.batch))

    every = [answers(own, kept.piece(f"order {i}")) for i, own in enumerate(arranged)]
    # The plain way: every sequence whole and alone.
    plain = Reader(bench.model, shortcuts=WHOLE)
    alone = kept.piece("plain").once(
        Answers, lambda: read(bench.model, bench.template, arranged[0], bench.texts[:replays], reader=plain)
    )
    return Profile(*stacked([every]), alone.tokens)


def stacked(looks: Sequence[Sequence[Answers]]) -> tuple[Tensor, Tensor]:
    """Distributions and log-probabilities of label words, of several orders at several epochs."""
    tokens, labels = (
        torch.stack([torch.stack([getattr(a, name) for a in answers]) for answers in looks])
        for name in ("tokens", "labels")
    )
    return tokens, labels


def train_orders(
    bench: Bench,
    shown: Sequence[Labelled],
    orders: Int[Tensor, "order shot"],
    how: Descent,
    epochs: Sequence[int],
    *,
    replay: bool = True,
    kept: Unfinished = NOWHERE,
) -> Profile:
    """Zero-shot answers after training in every order, as many of them together as fit; once more the first alone.

    Without ``replay`` there is no second time; ``kept`` says where trainings are kept between sittings.
    """
    arranged = [[shown[i] for i in order] for order in orders.tolist()]
    size = runs_at_once(bench.model, how)
    parts = [
        stacked(list(train_and_answer(bench, arranged[i : i + size], how, epochs, kept.piece(f"order {i}"))))
        for i in range(0, len(arranged), size)
    ]
    tokens, labels = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    if not replay:
        return Profile(tokens, labels, tokens[-1, 0, :0])
    *_, (again,) = train_and_answer(bench, arranged[:1], how, epochs, kept.piece("again"))
    return Profile(tokens, labels, again.tokens)


def profile_difference(
    p: Float[Tensor, "order item token"], q: Float[Tensor, "order item token"]
) -> tuple[Float[Tensor, " item"], Float[Tensor, " item"]]:
    r"""Theorem 1 as numbers, over the pairs of orders.

    .. math:: \frac{\sum_{\sigma < \sigma'} \| (p_\sigma - p_{\sigma'}) - (q_\sigma - q_{\sigma'}) \|_1}
        {\sum_{\sigma < \sigma'} \| p_\sigma - p_{\sigma'} \|_1}, \qquad
        \frac{\langle p_\sigma - p_{\sigma'}, q_\sigma - q_{\sigma'} \rangle}{\| \cdot \| \| \cdot \|}

    The first is 0 for equivalent algorithms, 1 where q depends on no order, and may exceed 1 where q depends on it in
    another way; the second is the mean cosine of the two changes, 0 where one of them vanishes.

    Example:
        >>> p = torch.tensor([[[0.5, 0.5]], [[0.7, 0.3]]])
        >>> [round(x.item(), 6) for x in profile_difference(p, p)]
        [0.0, 1.0]
        >>> [x.item() for x in profile_difference(p, p[:1].expand(2, 1, 2))]
        [1.0, 0.0]
    """
    one, other = torch.combinations(torch.arange(len(p))).T
    a, b = p[one] - p[other], q[one] - q[other]
    relative = (a - b).abs().sum(-1).sum(0) / a.abs().sum(-1).sum(0)
    lengths = a.norm(dim=-1) * b.norm(dim=-1)
    cosine = torch.where(lengths > 0, (a * b).sum(-1) / lengths, 0.0).mean(0)
    return relative, cosine


def order_sensitivity(
    bench: Bench, setting: Orders, folder: Path | None = None, *, resume: bool = False
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Measure; yields how many records are done, of how many, and the record. Arguments as ``compare``.

    Raises:
        InputError: If a number is out of its range or a prompt is too long.
        StorageError: If a record cannot be written.
    """
    if setting.orders < 2 or setting.shots < 2:
        raise InputError("lm order: at least two demonstrations in at least two orders are needed.")
    for descent in setting.descents:
        require_trainable(bench.model, descent)
    return measured(bench, setting, folder, resume)


def measured(
    bench: Bench, setting: Orders, folder: Path | None, resume: bool
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    total, done = setting.sets * (1 + len(setting.descents)), 0
    shared = Unfinished(folder, resume, {"kind": KIND, **bench.about()})
    for number in range(setting.sets):
        own = OrderedSet(bench, setting, number, shared)
        for how in (None, *setting.descents):
            done += 1
            yield done, total, own.record(how)
        own.kept.forget()
    shared.forget()


@final
class OrderedSet:
    """One demonstration set with its records.

    Args:
        bench: The model and its questions.
        setting: What is measured.
        number: Which set.
        shared: Where it is kept what all sets need.
    """

    def __init__(self, bench: Bench, setting: Orders, number: int, shared: Unfinished) -> None:
        self.bench, self.setting, self.shared = bench, setting, shared
        self.shown = bench.demonstrate(number, setting.shots)
        self.orders = bench.orders(number, setting.shots, setting.orders)
        self.about = {**shared.content, "shots": setting.shots, "set": number, "orders": setting.orders}
        self.kept = Unfinished(shared.folder, shared.resume, self.about)

    @functools.cached_property
    def start(self) -> Answers:
        """The answers without demonstrations."""
        b = self.bench
        return self.shared.piece("zero-shot").once(
            Answers, lambda: read(b.model, b.template, (), b.texts, batch=b.batch)
        )

    @functools.cached_property
    def reading(self) -> Profile:
        """The answers in context."""
        return read_orders(self.bench, self.shown, self.orders, kept=self.kept)

    def record(self, how: Descent | None) -> dict[str, Any]:
        """The record of reading, or of a way of training."""
        arm = READING if how is None else arm_name(how)
        extra = {} if how is None else {"how": asdict(how), "epochs": self.setting.epochs}
        content = {**self.about, "arm": arm, **extra}
        place = Kept(content, self.shared.folder, self.shared.resume)
        kept = Unfinished(self.shared.folder, self.shared.resume, content)
        record = place.found or place.store(self.measured(how, kept))
        kept.forget()
        return record

    def measured(self, how: Descent | None, kept: Unfinished) -> dict[str, Any]:
        """What a record holds beside its configuration."""
        started = time.perf_counter()
        profile = self.reading
        if how is not None:
            profile = train_orders(self.bench, self.shown, self.orders, how, self.setting.epochs, kept=kept)
        content = described(self.bench, profile, self.reading, self.start.tokens)
        seconds = round(time.perf_counter() - started, 3)
        rest = {"fallback": fallback([(self.bench, ()), (self.bench, self.shown)]), "seconds": seconds}
        return {"demonstrations": shown_for(self.shown), **content, **rest}


def described(bench: Bench, profile: Profile, reading: Profile, start: Tensor) -> dict[str, Any]:
    """The measures of a record, at every epoch."""
    looks: list[dict[str, float]] = []
    counted = distinct(bench.firsts)
    for tokens, scores in zip(profile.tokens, profile.labels, strict=True):
        relative, cosine = profile_difference(reading.tokens[0], tokens)
        labels = tokens.gather(-1, bench.firsts.expand(len(tokens), -1, -1)) * counted
        chosen = [Answers(*answer).chosen(bench.firsts) for answer in zip(tokens, scores, strict=True)]
        accuracy = torch.stack(chosen) == bench.right
        looks.append(
            {
                "Sen": sensitivity(tokens).mean().item(),
                "Sen (population)": sensitivity(tokens, spread=0).mean().item(),
                "Sen (label words)": sensitivity(labels).mean().item(),
                "Sen (mean log-probability)": sensitivity(tokens, space="logprob", reduce="mean").mean().item(),
                "KL from the start": kl_divergence(tokens, start.expand_as(tokens)).mean().item(),
                "accuracy": accuracy.double().mean().item(),
                "Theorem 1: difference": relative.mean().item(),
                "Theorem 1: cosine": cosine.mean().item(),
            }
        )
    return {"measures": {name: [look[name] for look in looks] for name in looks[0]}, "replay floor": profile.floor}
