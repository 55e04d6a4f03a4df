"""Options that the commands on language models share: model, texts, training, results."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

import typer

from insitu.cli.options import PlanOption, Sitting, Where
from insitu.cli.terminal import console, escaped
from insitu.errors import InputError, near_matches

if TYPE_CHECKING:
    import torch

    from insitu.language import Corpus, Descent, LanguageModel, Template
    from insitu.language.measure.bench import Bench
    from insitu.seed import Seed

__all__ = [
    "TEMPLATE_DEFAULT",
    "ColumnOptions",
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
    "show_data",
]

# The optimisers by name: the update rule and the batch size in demonstrations (None for full batch).
OPTIMISERS = {"gd": ("gd", None), "sgd1": ("gd", 1), "sgd2": ("gd", 2), "sgd4": ("gd", 4), "adam": ("adam", None)}

FILES = "a file (CSV, TSV, JSON, JSONL or Parquet), a folder with such files for train and test"
DataOption = Annotated[str, typer.Option(help=f"A bundled name (subj, mr), {FILES}, or hub:NAME.")]
TEMPLATE_DEFAULT = "the one named after the data, or a proposed one"
TemplateOption = Annotated[
    str, typer.Option(help="A name, FILE.toml or FILE.toml:NAME.", show_default=TEMPLATE_DEFAULT)
]
SetsOption = Annotated[int, typer.Option(min=1, help="Number of demonstration sets.")]
EpochsOption = Annotated[list[int], typer.Option(help="Numbers of epochs after which to measure.")]


@dataclass(frozen=True)
class ModelOptions:
    """Which language model, and how it is loaded."""

    model: Annotated[
        str,
        typer.Option(help="A fetched or bundled name, a folder, a GGUF file, a hub name.", show_default="smollm2"),
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
    """Which test texts are answered, and how long ones are treated."""

    items: Annotated[int, typer.Option(min=1, help="How many test rows are answered, at most.")] = 100
    longest: Annotated[int | None, typer.Option(min=1, help="Leave out texts with more tokens than this.")] = None
    shorten: Annotated[bool, typer.Option("--shorten", help="Cut texts that are too long instead.")] = False
    batch: Annotated[int, typer.Option(min=1, help="Sequences in a forward pass.")] = 32
    chat: Annotated[bool, typer.Option("--chat", help="Put prompts into the model's chat template.")] = False


@dataclass(frozen=True)
class ColumnOptions:
    """The columns of texts and labels, and the file of the templates."""

    text: Annotated[str, typer.Option(help="The column of texts.", show_default="text, sentence, ...")] = ""
    label: Annotated[str, typer.Option(help="The column of labels.", show_default="label")] = ""
    pair: Annotated[
        list[str] | None, typer.Option(help="The two columns of pairs.", show_default="premise hypothesis, ...")
    ] = None
    save_template: Annotated[
        Path | None, typer.Option(help="Save the templates in use to this TOML file, for editing.")
    ] = None

    def load(self, data: str, seed: "Seed") -> "Corpus":
        """The labelled texts of a name, file or folder."""
        from insitu.language import Columns, load_corpus

        return load_corpus(data, Columns(self.text, self.label, tuple(self.pair or ())), seed)


@dataclass(frozen=True)
class Demonstrations:
    """How demonstrations are chosen."""

    demonstrations: Annotated[
        list[str] | None, typer.Option(help="Ids of the train rows to demonstrate with.", show_default="drawn")
    ] = None
    natural: Annotated[bool, typer.Option("--natural", help="Sample demonstrations without balancing labels.")] = False

    @property
    def pinned(self) -> tuple[str, ...]:
        """The ids, which may also be separated by commas."""
        return tuple(itertools.chain.from_iterable(word.split(",") for word in self.demonstrations or ()))


@dataclass(frozen=True)
class DescentOptions:
    """How the model is fine-tuned."""

    optimisers: Annotated[
        list[str], typer.Option(help="gd (full batch), sgd1, sgd2, sgd4, adam; none for no fine-tuning.")
    ]
    rates: Annotated[list[float], typer.Option(help="Learning rates.")]
    parts: Annotated[
        list[str],
        typer.Option(help="Trained part: all, kv, value:mid, value:deep, value:N, lora:RANK[:MODULE,MODULE]."),
    ]

    @property
    def descents(self) -> "tuple[Descent, ...]":
        """Every combination of part, optimiser and rate; nothing for the optimiser *none*."""
        from insitu.language import Descent

        if self.optimisers == ["none"]:
            return ()
        for name in self.optimisers:
            if name not in OPTIMISERS:
                raise InputError(f"no optimiser is called {name!r}; {near_matches(name, OPTIMISERS)}")
        chosen = itertools.product(self.parts, self.optimisers, self.rates)
        return tuple(Descent(rate, OPTIMISERS[name][1], OPTIMISERS[name][0], part) for part, name, rate in chosen)


@final
@dataclass(frozen=True)
class Results(Sitting):
    """The folder of records, page and figures, and for how long they are made."""

    # For a step of a training, and for its state, which may be a gigabyte.
    reserve = 14.0
    grace = 10.0

    out: Annotated[Path, typer.Option(help="Folder for records, page and figures.")] = Path("results") / "lm"
    plan: PlanOption = False


def bench_of(
    model: ModelOptions,
    data: str,
    template: str,
    where: Where,
    shots: int,
    texts: TextOptions,
    columns: ColumnOptions,
    demonstrations: Demonstrations | None = None,
    labels: str = "gold",
) -> "Bench":
    """The model with questions of one data set, whose prompts hold up to ``shots`` demonstrations."""
    if shots < 1:
        raise InputError(f"--shots must be at least 1; got {shots}.")
    chosen = demonstrations or Demonstrations()
    how = {"pinned": chosen.pinned, "balanced": not chosen.natural, "labels": labels}
    return benches_of(model, [data], [template] if template else [], where, shots, texts, columns, **how)[0]


def benches_of(
    model: ModelOptions,
    data: Sequence[str],
    templates: Sequence[str],
    where: Where,
    shots: int,
    texts: TextOptions,
    columns: ColumnOptions,
    **how: object,
) -> "list[Bench]":
    """One bench for every data set, all of one model."""
    from insitu.language import save_templates
    from insitu.language.measure.bench import set_up
    from insitu.language.texts.chat import in_turns
    from insitu.processes import choose_products
    from insitu.seed import Seed

    choose_products()
    seed = Seed(where.seed)
    corpora = [columns.load(name, seed) for name in data]
    chosen = templates_of(corpora, templates)
    if columns.save_template is not None:
        names = [corpus.name for corpus in corpora]
        if len(set(names)) < len(names):
            raise InputError(f"--save-template: two data sets have one name ({', '.join(names)}); rename one.")
        save_templates(columns.save_template, {n: template for n, (template, _) in zip(names, chosen, strict=True)})
    loaded = model.load(where.place)
    own = {name: value for name, value in vars(texts).items() if name != "chat"}
    fit: dict[str, Any] = {"proportional": True, **own, **how}
    worded: Callable[[Template], Template] = lambda t: in_turns(t, loaded.tokenizer) if texts.chat else t  # noqa: E731
    return [
        set_up(loaded, corpus, worded(template), seed, shots=shots, proposed=proposed, **fit)
        for corpus, (template, proposed) in zip(corpora, chosen, strict=True)
    ]


def templates_of(corpora: "Sequence[Corpus]", names: Sequence[str]) -> "list[tuple[Template, bool]]":
    """A template for every data set, and whether it is proposed."""
    from insitu.language import load_template, usual_template

    if len(names) not in (0, 1, len(corpora)):
        raise InputError(
            f"--template was given {len(names)} times for {len(corpora)} data sets; give none, one for all, or one for "
            "each, those to train on first."
        )
    if not names:
        return [usual_template(corpus) for corpus in corpora]
    return [(load_template(name), False) for name in list(names) * (len(corpora) // len(names))]


def show_data(benches: "Sequence[Bench]") -> None:
    """Print what the data contain and exclude, and proposed templates, before anything is measured."""
    from insitu.language import template_toml
    from insitu.language.measure.bench import data_notes

    for bench in benches:
        console.print(escaped("; ".join(data_notes(bench)) + "."), highlight=False, soft_wrap=True)
        if bench.proposed:
            table = template_toml(bench.corpus.name, bench.template)
            words = "No template fits these labels; this one is proposed (--save-template FILE.toml keeps it):"
            console.print(escaped(f"{words}\n{table}"), highlight=False, soft_wrap=True)
