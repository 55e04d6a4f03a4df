r"""Gradient descent of a language model, whole or in part, on the demonstrations: the rival of reading them.

.. math:: \theta \leftarrow \theta - \frac{\eta}{|B|} \sum_{i \in B} \nabla_\theta
    \big( -\log p_\theta(\text{label word}_i \mid \text{zero-shot prompt}_i) \big)

with :math:`B` all demonstrations (full batch) or consecutive ones in the order given (mini-batches). A word of several
tokens counts with the sum of their log-probabilities, so every demonstration weighs the same. Nothing is drawn: there
is no dropout and no shuffling. Several runs, such as orders or demonstration sets, are trained as one batch.
"""

import functools
import math
import warnings
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from insitu.errors import InputError, out_of_memory, require_count, require_not_negative, require_one_of
from insitu.language.models.forwards import marked_places, run
from insitu.language.models.in_context import next_token_distributions
from insitu.language.models.pretrained import LanguageModel
from insitu.language.models.reading import Question, Weights, pose
from insitu.language.models.self_test import ordinary_tokens, self_test
from insitu.language.models.submodels import Submodel, select_submodel
from insitu.language.texts.corpora import Labelled
from insitu.language.texts.templates import Template

__all__ = [
    "Descent",
    "Progress",
    "Together",
    "fine_tune",
    "fine_tune_together",
    "require_epochs",
    "require_trainable",
    "runs_at_once",
    "zero_shot",
]

Optimiser = Literal["gd", "adam"]
# The defaults of Adam (Kingma and Ba, 2015).
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
# How many bytes the weights, slopes and moments of runs trained together may take.
ROOM = 2 * 2**30


@final
@dataclass(frozen=True)
class Descent:
    r"""How a model is trained on demonstrations.

    Args:
        rate: The fixed rate :math:`\eta`.
        batch: How many demonstrations one step takes; all of them if none.
        optimiser: *gd*, plain descent, or *adam* with its usual moments.
        part: Which weights are trained, see :func:`~insitu.language.models.submodels.select_submodel`.

    Raises:
        InputError: If a number is out of its range or the optimiser is unknown.
    """

    rate: float
    batch: int | None = None
    optimiser: str = "gd"
    part: str = "all"

    def __post_init__(self) -> None:
        require_not_negative("fine-tuning", "rate", self.rate, zero=False)
        require_count("fine-tuning", "batch", 1 if self.batch is None else self.batch, least=1)
        require_one_of("fine-tuning", "optimiser", self.optimiser, get_args(Optimiser))

    @property
    def name(self) -> str:
        """What the optimiser is called: gd, sgd1, adam, ..."""
        return f"sgd{self.batch}" if self.optimiser == "gd" and self.batch else self.optimiser


def fine_tune(
    model: LanguageModel,
    template: Template,
    demonstrations: Sequence[Labelled],
    *,
    rate: float,
    epochs: Sequence[int],
    batch: int | None = None,
    optimiser: str = "gd",
    part: str = "all",
) -> Iterator[Weights]:
    r"""Train on demonstrations, each as a zero-shot prompt and its label word; the model itself stays untouched.

    Args:
        model: Where training starts.
        template: How a demonstration is put into words.
        demonstrations: What to train on, in the order given.
        rate: The fixed rate :math:`\eta`.
        epochs: After how many passes to yield the weights, in rising order; 0 is the start.
        batch: How many demonstrations one step takes; all of them if not given.
        optimiser: *gd* or *adam*.
        part: Which weights are trained, see :func:`~insitu.language.models.submodels.select_submodel`; others are
            not yielded.

    Yields:
        The trained weights after each of ``epochs``, as :func:`zero_shot` takes them.

    Raises:
        InputError: If a number is out of its range, there is no demonstration, one is too long for the model, or the
            weights are in half precision.
    """
    require_count("fine-tuning", "batch", len(demonstrations) if batch is None else batch, least=1)
    how = Descent(rate, batch, optimiser, part)
    return (
        {name: weight[0] for name, weight in weights.items()}
        for weights in fine_tune_together(model, template, [demonstrations], how, epochs)
    )


def fine_tune_together(
    model: LanguageModel,
    template: Template,
    runs: Sequence[Sequence[Labelled]],
    how: Descent,
    epochs: Sequence[int],
) -> Iterator[Weights]:
    """As :func:`fine_tune` for several lists of equally many demonstrations, as one batch.

    Yields:
        The trained weights with a first axis over the runs, after each of ``epochs``.

    Raises:
        InputError: As :func:`fine_tune`, or if the lists differ in length.
    """
    together = Together(model, template, runs, how)
    require_epochs(epochs)
    return together.after(epochs)


def require_epochs(epochs: Sequence[int]) -> None:
    """Refuse epochs that do not rise, or none.

    Raises:
        InputError: If they do not.
    """
    if not epochs or list(epochs) != sorted(set(epochs)) or epochs[0] < 0:
        raise InputError(f"fine-tuning: epochs must be rising whole numbers of at least 0; got {tuple(epochs)}.")


@final
@dataclass(eq=False)
class Progress:
    """How far a training has come: all that it needs to go on, to the last bit.

    Args:
        steps: How many steps were made.
        weights: The weights that are trained, with a first axis over the runs.
        moments: Those of Adam; none for plain descent.
    """

    steps: int
    weights: dict[str, Tensor]
    moments: dict[str, tuple[Tensor, Tensor]]


@final
class Together:
    """Runs that are trained as one batch, see :func:`fine_tune_together`."""

    def __init__(
        self, model: LanguageModel, template: Template, runs: Sequence[Sequence[Labelled]], how: Descent
    ) -> None:
        if len({len(demonstrations) for demonstrations in runs}) != 1:
            raise InputError("fine-tuning: lists that are trained on together must be equally long.")
        self.how, self.chosen = how, require_trainable(model, how)
        posed = pose(model, template, [template.prompt(d.text) for demonstrations in runs for d in demonstrations])
        labels = [d.label for demonstrations in runs for d in demonstrations]
        lessons = Lessons.of([lesson(q, label) for q, label in zip(posed, labels, strict=True)], len(runs))
        self.lessons = lessons.to(model.device)
        self.batching = batching_of(model, max(question.length for question in posed), len(runs))
        self.size = how.batch or len(runs[0])
        self.steps_of_epoch = math.ceil(len(runs[0]) / self.size)

    @property
    def start(self) -> Progress:
        """The training before its first step."""
        weights = {name: w.expand(len(self.lessons.ids), *w.shape) for name, w in self.chosen.start.items()}
        adam = self.how.optimiser == "adam"
        moments = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in weights.items() if adam}
        return Progress(0, weights, moments)

    def advance(self, progress: Progress) -> None:
        """Make one step."""
        first = self.size * (progress.steps % self.steps_of_epoch)
        lessons, weights = self.lessons.shots(first, first + self.size), progress.weights
        progress.steps += 1
        found = dict(slopes(self.chosen.network, weights, lessons, self.batching))
        for name, mask in self.chosen.masks.items():
            slope = found.pop(name)  # its memory is free for the new weights
            masked = slope if mask is None else slope * mask
            moved = direction(masked, progress.moments.get(name), progress.steps)
            # Not in place: the old weights may be the model's own, or what somebody keeps.
            weights[name] = torch.sub(weights[name], moved, alpha=self.how.rate)

    def epoch(self, progress: Progress) -> int | None:
        """The number of finished passes; none in the middle of one."""
        passes, rest = divmod(progress.steps, self.steps_of_epoch)
        return None if rest else passes

    def after(self, epochs: Sequence[int]) -> Iterator[Weights]:
        """The weights after each of some passes, in rising order."""
        progress = self.start
        for epoch in epochs:
            while self.epoch(progress) != epoch:
                self.advance(progress)
            yield self.weights(progress)

    def weights(self, progress: Progress) -> Weights:
        """The weights as a network takes them, with a first axis over the runs."""
        return self.chosen.merge(dict(progress.weights))


def require_trainable(model: LanguageModel, how: Descent) -> Submodel:
    """The part that is trained.

    Raises:
        InputError: If there is no such part, or the weights are in half precision.
    """
    if model.network.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"fine-tuning: {model.name} is in {model.network.dtype}, where small steps round to nothing and a model "
            "that does not move looks like one that does not depend on order. Load it in float32, or compare readings "
            "alone (--optimisers none)."
        )
    return select_submodel(model, how.part)


def runs_at_once(model: LanguageModel, how: Descent) -> int:
    """How many runs may be trained as one batch within two gigabytes; at least one."""
    chosen = select_submodel(model, how.part)
    start = chosen.start
    trained, kept = (sum(w.numel() * w.element_size() for w in part.values()) for part in (start, chosen.merge(start)))
    return max(1, ROOM // (trained * (4 if how.optimiser == "adam" else 2) + kept))


@final
@dataclass(frozen=True, eq=False)
class Lessons:
    """Zero-shot prompts with their answers as padded tokens, and where the tokens of the answers stand.

    Args:
        ids: The tokens.
        answers: 1 where a token belongs to the label word, 0 elsewhere.
    """

    ids: Int[Tensor, "run shot place"]
    answers: Float[Tensor, "run shot place"]

    @classmethod
    def of(cls, lessons: Sequence[tuple[list[int], int]], runs: int) -> "Lessons":
        """From tokens and the place where the answer begins, ``runs`` lists of them one behind the other."""
        longest = max(len(ids) for ids, _ in lessons)
        ids, answers = torch.zeros(len(lessons), longest, dtype=torch.long), torch.zeros(len(lessons), longest)
        for row, inside, (tokens, start) in zip(ids, answers, lessons, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
            inside[start : len(tokens)] = 1.0
        return cls(ids.unflatten(0, (runs, -1)), answers.unflatten(0, (runs, -1)))

    def to(self, device: torch.device) -> "Lessons":
        """The same on another device."""
        return Lessons(self.ids.to(device), self.answers.to(device))

    def shots(self, start: int, stop: int) -> "Lessons":
        """Consecutive demonstrations of every run."""
        return Lessons(self.ids[:, start:stop], self.answers[:, start:stop])


@final
@dataclass(frozen=True)
class Batching:
    """What is trained on in one pass.

    Args:
        padding: Lessons of different lengths, padded on the right.
        runs: Several runs.
    """

    padding: bool
    runs: bool


def batching_of(model: LanguageModel, length: int, runs: int) -> Batching:
    """What may be trained on in one pass, for lessons of so many tokens: padding by the model's self-test, runs by a
    comparison with plain backpropagation.
    """
    padding = self_test(model).shortcuts(length).padding
    if padding and runs > 1 and model not in vectorised:
        vectorised[model] = runs_agree(model)
    return Batching(padding, padding and runs > 1 and vectorised[model])


vectorised: "weakref.WeakKeyDictionary[LanguageModel, bool]" = weakref.WeakKeyDictionary()


def runs_agree(model: LanguageModel) -> bool:
    """Whether the slopes of two runs in one pass are those of one run after the other."""
    ids = torch.tensor(ordinary_tokens(model, 24), device=model.device).view(2, 2, 6)
    lessons = Lessons(ids, (torch.arange(6, device=ids.device) > 3).to(model.network.dtype).expand(2, 2, 6))
    weights = {name: torch.stack([w, 1.125 * w]) for name, w in model.network.named_parameters()}
    apart = slopes(model.network, weights, lessons, Batching(padding=True, runs=False))
    try:
        together = slopes(model.network, weights, lessons, Batching(padding=True, runs=True))
    except Exception:  # code that looks at values, or changes them in place, cannot be batched
        return False
    most = max(g.abs().max().item() for g in apart.values())
    return all((g - apart[name]).abs().max() <= 1e-4 * most for name, g in together.items())


def lesson(question: Question, label: str) -> tuple[list[int], int]:
    return [*question.prompt, *dict(question.words)[label]], len(question.prompt)


def direction(slope: Tensor, moments: tuple[Tensor, Tensor] | None, step: int) -> Tensor:
    """The slope itself, or what Adam makes of it; its moments are updated in place."""
    if moments is None:
        return slope
    first, second = moments
    first.lerp_(slope, 1 - BETA1)
    second.lerp_(slope.square(), 1 - BETA2)
    return first / (1 - BETA1**step) / ((second / (1 - BETA2**step)).sqrt() + EPSILON)


def slopes(network: Any, weights: Weights, lessons: Lessons, how: Batching) -> Weights:
    """The slope of every run's loss: all runs in one pass where that is exact, else one after the other."""
    if how.runs and len(lessons.ids) > 1:
        mean = functools.partial(loss, network)
        # The fused kernels have no batching rule.
        with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            # A missing batching rule is slower, and no matter of the user's.
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            return vmap(grad(mean))(weights, lessons.ids, lessons.answers, answer_places(lessons.answers))
    parts = [slopes_of_run(network, weights, lessons, run, how.padding) for run in range(len(lessons.ids))]
    return {name: stacked([part[name] for part in parts]) for name in weights}


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """Tensors with a first axis over them; a single one is not copied."""
    return parts[0][None] if len(parts) == 1 else torch.stack(list(parts))


def slopes_of_run(network: Any, weights: Weights, lessons: Lessons, run: int, padding: bool) -> Weights:
    """The slope of one run's loss by plain backpropagation, its lessons read together or one after the other.

    Raises:
        InputError: If the network fails.
    """
    own = {name: w[run].detach().requires_grad_(True) for name, w in weights.items()}
    rows = [slice(None)] if padding else [slice(i, i + 1) for i in range(lessons.ids.shape[1])]
    try:
        parts = [slopes_of_lessons(network, own, lessons.ids[run, row], lessons.answers[run, row]) for row in rows]
    except Exception as error:  # the code of a network may fail in any way
        if out_of_memory(error):
            raise
        raise InputError(
            f"fine-tuning: this network, a {type(network).__name__}, cannot be trained: it fails in backpropagation "
            f"({type(error).__name__}: {str(error).strip()[:120]}). Compare readings alone, or take another model."
        ) from error
    means = parts[0] if len(parts) == 1 else [sum(column) / len(parts) for column in zip(*parts, strict=True)]
    return dict(zip(own, means, strict=True))


def slopes_of_lessons(network: Any, weights: Weights, ids: Tensor, answers: Tensor) -> tuple[Tensor, ...]:
    """The slopes of the loss of lessons that are read together, up to the last token of an answer."""
    size = int(answers.any(0).nonzero().max()) + 1
    ids, answers = ids[:, :size], answers[:, :size]
    with torch.enable_grad():
        mean = loss(network, weights, ids, answers, answer_places(answers))
        return torch.autograd.grad(mean, list(weights.values()), materialize_grads=True)


def answer_places(answers: Float[Tensor, "*runs shot place"]) -> Int[Tensor, "*runs shot some"]:
    """The places behind which a token of an answer stands, in every lesson."""
    return marked_places(answers[..., 1:].bool())


def loss(network: Any, weights: Weights, ids: Tensor, answers: Tensor, kept: Tensor) -> Tensor:
    """The mean over lessons of the negative log-probability of the label word."""
    return answer_loss(run(network, ids[:, :-1], kept, weights)[0], ids, answers, kept)


def answer_loss(
    logits: Float[Tensor, "shot some token"],
    ids: Int[Tensor, "shot place"],
    answers: Float[Tensor, "shot place"],
    kept: Int[Tensor, "shot some"],
) -> Float[Tensor, ""]:
    """The mean over lessons of the negative log-probability of the answer, from the logits at some places."""
    found = logits.log_softmax(-1).gather(-1, ids.gather(-1, kept + 1)[..., None])[..., 0]
    return -(found * answers.gather(-1, kept + 1)).sum() / len(ids)


def zero_shot(
    model: LanguageModel,
    template: Template,
    texts: Sequence[str],
    *,
    weights: Weights | None = None,
    batch: int = 32,
) -> Tensor:
    """The answer's distribution for every text without any demonstration, ``(item, token)``.

    Args:
        model: The model.
        template: How a text is put into words.
        texts: The texts to classify.
        weights: Weights in place of the model's own.
        batch: How many prompts to read together.

    Raises:
        InputError: If a prompt is longer than what the model reads.
    """
    return next_token_distributions(model, [template.prompt(text) for text in texts], weights=weights, batch=batch)
