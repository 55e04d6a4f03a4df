"""What the commands on language models share: which model, which texts, how to train, where results go."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insitu.cli.options import ResumeOption, Where
from insitu.errors import InputError, near_matches

if TYPE_CHECKING:
    import torch

    from insitu.language import Descent, LanguageModel
    from insitu.language.measure.bench import Bench

__all__ = [
    "DataOption",
    "Demonstrations",
    "DescentOptions",
    "EpochsOption",
    "ModelOptions",
    "Results",
    "SetsOption",
    "TemplateOption",
    "TextOptions",
    "bench_of",
    "benches_of",
]

# The optimisers by name: the rule of an update, and how many demonstrations it sees (all where none is given).
OPTIMISERS = {"gd": ("gd", None), "sgd1": ("gd", 1), "sgd2": ("gd", 2), "sgd4": ("gd", 4), "adam": ("adam", None)}

DataOption = Annotated[
    str, typer.Option(help="A bundled name (subj, mr), a folder with train.jsonl and test.jsonl, or hub:NAME.")
]
TemplateOption = Annotated[
    str, typer.Option(help="A name, FILE.toml or FILE.toml:NAME.", show_default="the one named after the data")
]
SetsOption = Annotated[int, typer.Option(min=1, help="How many demonstration sets.")]
EpochsOption = Annotated[list[int], typer.Option(help="Numbers of epochs after which to measure.")]


@dataclass(frozen=True)
class ModelOptions:
    """Which language model, and how it is loaded."""

    model: Annotated[
        str, typer.Option(help="A bundled name, a folder, or a hub name.", show_default="the bundled model")
    ] = ""
    dtype: Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16; training needs the first two.")] = (
        "float32"
    )
    revision: Annotated[str | None, typer.Option(help="Version of a hub model, such as a checkpoint.")] = None
    download: Annotated[bool, typer.Option("--download", help="Fetch a hub model that is not here yet.")] = False
    spread: Annotated[bool, typer.Option("--spread", help="Spread the model over all devices.")] = False

    def load(self, device: "torch.device") -> "LanguageModel":
        """The model."""
        from insitu.language import DEFAULT_MODEL, load_language_model

        return load_language_model(
            self.model or DEFAULT_MODEL,
            device=device,
            download=self.download,
            dtype=self.dtype,
            revision=self.revision,
            spread=self.spread,
        )


@dataclass(frozen=True)
class TextOptions:
    """Which texts are asked about, and what is done with long ones."""

    items: Annotated[int, typer.Option(min=1, help="How many test rows are answered, at most.")] = 100
    longest: Annotated[int | None, typer.Option(min=1, help="Leave out texts with more tokens than this.")] = None
    shorten: Annotated[bool, typer.Option("--shorten", help="Cut texts that are too long instead.")] = False
    batch: Annotated[int, typer.Option(min=1, help="How many sequences are read together.")] = 32


@dataclass(frozen=True)
class Demonstrations:
    """How demonstrations are chosen."""

    demonstrations: Annotated[
        list[str] | None, typer.Option(help="Ids of the train rows to demonstrate with.", show_default="drawn")
    ] = None
    natural: Annotated[bool, typer.Option("--natural", help="Draw labels as they come, not balanced.")] = False

    @property
    def pinned(self) -> tuple[str, ...]:
        """The ids, which may also be separated by commas."""
        return tuple(itertools.chain.from_iterable(word.split(",") for word in self.demonstrations or ()))


@dataclass(frozen=True)
class DescentOptions:
    """How the model is fine-tuned."""

    optimisers: Annotated[list[str], typer.Option(help="gd (full batch), sgd1, sgd2, sgd4, adam.")]
    rates: Annotated[list[float], typer.Option(help="Learning rates.")]
    parts: Annotated[list[str], typer.Option(help="What is trained: all, value:mid, value:deep, value:N, lora:RANK.")]

    @property
    def descents(self) -> "tuple[Descent, ...]":
        """Every combination of part, optimiser and rate."""
        from insitu.language import Descent

        for name in self.optimisers:
            if name not in OPTIMISERS:
                raise InputError(f"no optimiser is called {name!r}; {near_matches(name, OPTIMISERS)}")
        chosen = itertools.product(self.parts, self.optimisers, self.rates)
        return tuple(Descent(rate, OPTIMISERS[name][1], OPTIMISERS[name][0], part) for part, name, rate in chosen)


@dataclass(frozen=True)
class Results:
    """Where records, page and figures go."""

    out: Annotated[Path, typer.Option(help="Folder for records, page and figures.")] = Path("results") / "lm"
    resume: ResumeOption = False


def bench_of(
    model: ModelOptions,
    data: str,
    template: str,
    where: Where,
    shots: int,
    texts: TextOptions,
    demonstrations: Demonstrations | None = None,
    labels: str = "gold",
) -> "Bench":
    """The model with questions of one data set, whose prompts hold up to ``shots`` demonstrations."""
    if shots < 1:
        raise InputError(f"--shots must be at least 1; got {shots}.")
    chosen = demonstrations or Demonstrations()
    drawn = {"pinned": chosen.pinned, "balanced": not chosen.natural, "labels": labels}
    return benches_of(model, [data], [template] if template else [], where, shots, texts, **drawn)[0]


def benches_of(
    model: ModelOptions,
    data: Sequence[str],
    templates: Sequence[str],
    where: Where,
    shots: int,
    texts: TextOptions,
    **drawn: object,
) -> "list[Bench]":
    """One bench for every data set, all of one model."""
    from insitu.language import TEMPLATES, load_corpus, load_template
    from insitu.language.measure.bench import set_up
    from insitu.seed import Seed

    corpora = [load_corpus(name) for name in data]
    if len(templates) not in (0, 1, len(data)):
        raise InputError(
            f"--template was given {len(templates)} times for {len(data)} data sets; give none, one for all, or one "
            "for each, those to train on first."
        )
    unknown = [corpus.name for corpus in corpora if corpus.name not in TEMPLATES]
    if unknown and not templates:
        raise InputError(
            f"no template is known for the data {', '.join(unknown)}; name some with --template: "
            f"{', '.join(TEMPLATES)}, or own TOML files with the keys question, answer and words."
        )
    chosen = [corpus.name for corpus in corpora] if not templates else list(templates) * (len(data) // len(templates))
    loaded = model.load(where.place)
    pairs = zip(corpora, map(load_template, chosen), strict=True)
    fit: dict[str, Any] = {**vars(texts), **drawn}
    return [set_up(loaded, corpus, words, Seed(where.seed), shots=shots, **fit) for corpus, words in pairs]
