"""What the claims start from: a model, its texts, and the ways of training it."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.claims import Run
from insitu.figure import Look
from insitu.language import LanguageModel, load_corpus, load_language_model, load_template
from insitu.language.measure.bench import Bench, set_up
from insitu.language.models.registry import missing_model
from insitu.metrics import Estimate

__all__ = [
    "AGNEWS",
    "REDUCED",
    "SMOLLM2",
    "TextSource",
    "accuracy_gap",
    "loaded",
    "look",
    "missing_source",
    "power",
    "prepare",
]


@dataclass(frozen=True)
class TextSource:
    """Which model reads which texts.

    Args:
        model: A bundled or fetched model, a folder or a hub name.
        data: A bundled corpus, a folder or a data set of the hub.
        template: How they are put into words.
        longest: The most tokens that a text may have; none for what fits the window.
    """

    model: str
    data: str
    template: str
    longest: int | None = None


SMOLLM2 = TextSource("smollm2", "mr", "mr", 14)
# The model and the data of the paper.
AGNEWS = TextSource("huggyllama/llama-7b", "hub:fancyzhx/ag_news", "agnews")
REDUCED = (
    "SmolLM2-135M-Instruct, 4-bit weights computed in float32, instead of LLaMA-7B; sentences of film reviews (MR) of "
    "at most 14 tokens instead of AGNews"
)


def missing_source(setting: Any) -> str:
    """What keeps the model of a setting with a source from being loaded."""
    return missing_model(setting.source.model)


@functools.lru_cache(maxsize=1)
def loaded(name: str, device: torch.device) -> LanguageModel:
    """A model, loaded once for all claims of a process; a hub name is fetched where it is not on this machine."""
    return load_language_model(name, device=device, download="/" in name)


def prepare(run: Run, source: TextSource, *, shots: int, items: int) -> Bench:
    """The model with its questions."""
    corpus, template = load_corpus(source.data), load_template(source.template)
    model = loaded(source.model, run.device)
    return set_up(model, corpus, template, run.seed, shots=shots, items=items, longest=source.longest)


def look(epochs: Sequence[int]) -> Look:
    """How a curve over epochs is drawn: as points where there is one epoch only."""
    return "solid" if len(epochs) > 1 else "points"


def accuracy_gap(gaps: Float[Tensor, " set"], items: int) -> Estimate:
    """The mean over demonstration sets of a difference of accuracies on so many questions.

    No error is smaller than the weight of one question: sets that agree on all of them may differ on others.

    Example:
        >>> accuracy_gap(torch.zeros(5, dtype=torch.float64), 10)
        Estimate(value=0.0, error=0.02, samples=5)
    """
    estimate = Estimate.mean(gaps)
    return replace(estimate, error=max(estimate.error, 1 / (items * len(gaps))))


def power(estimates: Mapping[str, Estimate]) -> str:
    """What a run could have decided: how far from a bound each estimate must lie so that its interval excludes it.

    Example:
        >>> power({"gap": Estimate(0.5, error=0.1), "exact": Estimate(1.0)})
        'Half-width of the interval, the least distance from a bound that would have decided: gap 0.26.'
    """
    halves = {name: (e.interval()[1] - e.interval()[0]) / 2 for name, e in estimates.items() if e.error > 0}
    listed = [f"{name} {half:.2g}" for name, half in halves.items() if math.isfinite(half)]
    return f"Half-width of the interval, the least distance from a bound that would have decided: {', '.join(listed)}."
