"""The commands on language models: ``insitu lm compare``, ``order``, ``mask``, ``weights`` and ``pretrain``."""

import itertools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from insitu.cli.terminal import (
    DeviceChoice,
    DeviceOption,
    JsonOption,
    SeedOption,
    escaped,
    print_json,
    progress_bar,
    told,
)
from insitu.errors import InputError
from insitu.storage import require_folder

if TYPE_CHECKING:
    from insitu.language import Descent
    from insitu.language.measure.bench import Bench

__all__ = ["lm"]

lm = typer.Typer(
    name="lm",
    help="Language models: reading demonstrations in the context against training on them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

OPTIMISERS = {"gd": ("gd", None), "sgd1": ("gd", 1), "sgd2": ("gd", 2), "sgd4": ("gd", 4), "adam": ("adam", None)}


class Spread(TyperCommand):
    """A command whose options may be followed by several values: ``--shots 1 2 4``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        several = {name for p in self.params if getattr(p, "multiple", False) for name in p.opts}
        given: list[str] = []
        option = ""
        for i, word in enumerate(args):
            # A word after the first value of such an option is one more value of it.
            if option and not word.startswith("--") and args[i - 1] != option:
                given += [option, word]
                continue
            if word.startswith("--"):
                option = word if word in several else ""
            given.append(word)
        return super().parse_args(ctx, given)


ModelOption = Annotated[str, typer.Option(help="A bundled name, a folder, or a hub name; the bundled model if none.")]
DataOption = Annotated[
    str, typer.Option(help="A bundled name (subj, mr), a folder with train.jsonl and test.jsonl, or hub:NAME.")
]
TemplateOption = Annotated[
    str, typer.Option(help="A name, FILE.toml or FILE.toml:NAME; the one called like the data if none.")
]
ItemsOption = Annotated[int, typer.Option(min=1, help="How many test rows are asked about, at most.")]
SetsOption = Annotated[int, typer.Option(min=1, help="How many demonstration sets.")]
RatesOption = Annotated[list[float] | None, typer.Option(help="Rates of descent.")]
EpochsOption = Annotated[list[int] | None, typer.Option(help="After how many epochs to look.")]
OptimisersOption = Annotated[list[str] | None, typer.Option(help="gd (full batch), sgd1, sgd2, sgd4, adam.")]
PartsOption = Annotated[
    list[str] | None, typer.Option(help="What is trained: all, value:mid, value:deep, value:LAYER, lora:RANK.")
]
PinnedOption = Annotated[
    list[str] | None, typer.Option(help="Ids of the train rows to demonstrate with, in place of drawn ones.")
]
LongestOption = Annotated[int | None, typer.Option(min=1, help="Leave out texts of more tokens than this.")]
ShortenOption = Annotated[bool, typer.Option("--shorten", help="Cut texts that are too long instead.")]
NaturalOption = Annotated[bool, typer.Option("--natural", help="Draw demonstrations as labels come, not balanced.")]
BatchOption = Annotated[int, typer.Option(min=1, help="How many sequences are read together.")]
DtypeOption = Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16; training needs the first two.")]
RevisionOption = Annotated[str | None, typer.Option(help="Version of a hub model, such as a checkpoint.")]
DownloadOption = Annotated[bool, typer.Option("--download", help="Fetch a hub model that is not here yet.")]
SpreadOption = Annotated[bool, typer.Option("--spread", help="Spread the model over all devices.")]
OutOption = Annotated[Path, typer.Option(help="Folder for records, page and figures.")]
OUT = Path("results") / "lm"
ResumeOption = Annotated[bool, typer.Option("--resume", help="Take what the same configuration has done already.")]


def bench_of(
    model: str,
    data: str,
    template: str,
    seed: int,
    device: DeviceChoice,
    shots: int,
    load: dict[str, Any],
    rest: dict[str, Any],
) -> "Bench":
    if shots < 1:
        raise InputError(f"--shots must be at least 1; got {shots}.")
    pinned = tuple(itertools.chain.from_iterable(p.split(",") for p in rest["pinned"] or ()))
    more = {**rest, "pinned": pinned}
    return benches_of(model, [data], [template] if template else [], seed, device, shots, load, more)[0]


def benches_of(
    model: str,
    data: Sequence[str],
    templates: Sequence[str],
    seed: int,
    device: DeviceChoice,
    shots: int,
    load: dict[str, Any],
    rest: dict[str, Any],
) -> "list[Bench]":
    """One bench for every data set, all of one model."""
    from insitu.device import pick_device
    from insitu.language import DEFAULT_MODEL, TEMPLATES, load_corpus, load_language_model, load_template
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
    loaded = load_language_model(model or DEFAULT_MODEL, device=pick_device(device.value), **load)
    pairs = zip(corpora, map(load_template, chosen), strict=True)
    return [set_up(loaded, corpus, words, Seed(seed), shots=shots, **rest) for corpus, words in pairs]


def descents_of(
    optimisers: list[str] | None, rates: list[float] | None, parts: list[str] | None
) -> "tuple[Descent, ...]":
    from insitu.errors import near_matches
    from insitu.language import Descent

    for name in optimisers or ():
        if name not in OPTIMISERS:
            raise InputError(f"no optimiser is called {name!r}; {near_matches(name, OPTIMISERS)}")
    chosen = itertools.product(parts or ["all"], optimisers or ["gd"], rates or [1e-3, 5e-3])
    return tuple(Descent(rate, OPTIMISERS[name][1], OPTIMISERS[name][0], part) for part, name, rate in chosen)


def followed(events: Iterable[tuple[int, int, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Run a measurement with a bar; a line for every record."""
    records = []
    with progress_bar("arms", 1) as bar, told_once():
        for done, total, record in events:
            bar.update(bar.task_ids[0], completed=done, total=total, description=escaped(str(record["arm"])))
            words = f"set {record['set']}, {record['shots']} demonstrations: {record['arm']}"
            told.print(f"{done:>4}/{total}  {escaped(words)}  [dim]{record['seconds']:.1f} s[/]", highlight=False)
            records.append(record)
    return records


@contextmanager
def told_once() -> Iterator[None]:
    """Warnings of the package as one line each, those of other packages not at all."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    for text in dict.fromkeys(str(w.message) for w in caught if "memory ran out" in str(w.message)):
        told.print(f"[yellow]warning:[/] {escaped(text)}", soft_wrap=True)


@lm.command(cls=Spread)
def compare(
    model: ModelOption = "",
    data: DataOption = "subj",
    template: TemplateOption = "",
    other_template: Annotated[str, typer.Option(help="The template of a reference line; none if not given.")] = "",
    shots: Annotated[list[int] | None, typer.Option(help="Numbers of demonstrations; 1 2 4 8 if not given.")] = None,
    sets: SetsOption = 3,
    items: ItemsOption = 100,
    orders: Annotated[int, typer.Option(min=1, help="Orders that 'orders averaged' averages over.")] = 4,
    optimisers: OptimisersOption = None,
    rates: RatesOption = None,
    epochs: EpochsOption = None,
    parts: PartsOption = None,
    demonstrations: PinnedOption = None,
    labels: Annotated[str, typer.Option(help="Labels of demonstrations: gold, flipped or random.")] = "gold",
    natural: NaturalOption = False,
    longest: LongestOption = None,
    shorten: ShortenOption = False,
    hidden: Annotated[bool, typer.Option("--hidden", help="Also compare hidden states: SimAOU and SimAM.")] = False,
    top: Annotated[int, typer.Option(min=1, help="How many top tokens overlaps compare.")] = 10,
    batch: BatchOption = 32,
    dtype: DtypeOption = "float32",
    revision: RevisionOption = None,
    download: DownloadOption = False,
    spread: SpreadOption = False,
    out: OutOption = OUT,
    resume: ResumeOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = DeviceChoice.auto,
    as_json: JsonOption = False,
) -> None:
    """Compare reading demonstrations with training on them; writes records, a page and figures.

    Example: insitu lm compare --data subj --shots 1 4 --rates 0.001 0.005 --epochs 1 5 --out results/compare
    """
    from insitu.language import load_template
    from insitu.language.measure.compare import Comparison
    from insitu.language.measure.compare import compare as measured
    from insitu.report.compare_page import compare_page, summary_of_compare

    counts = tuple(sorted(set(shots or ([len(demonstrations)] if demonstrations else [1, 2, 4, 8]))))
    load = {"dtype": dtype, "revision": revision, "download": download, "spread": spread}
    rest = {
        "items": items,
        "longest": longest,
        "shorten": shorten,
        "pinned": demonstrations,
        "balanced": not natural,
        "labels": labels,
        "batch": batch,
    }
    bench = bench_of(model, data, template, seed, device, max(counts), load, rest)
    setting = Comparison(
        counts,
        1 if bench.pinned else sets,
        orders,
        descents_of(optimisers, rates, parts),
        tuple(sorted(set(epochs or [1, 2, 5, 10]))),
        top,
        load_template(other_template) if other_template else None,
        hidden,
    )
    events = measured(bench, setting, out, resume=resume)
    # Made as late as wrong input can be told.
    require_folder(out)
    records = followed(events)
    with told.status("drawing figures"):
        page = compare_page(records, out)
    if as_json:
        print_json({"page": str(page), "arms": summary_of_compare(records)})
    else:
        typer.echo(f"The page is {page}.")


@lm.command(cls=Spread)
def order(
    model: ModelOption = "",
    data: DataOption = "subj",
    template: TemplateOption = "",
    shots: Annotated[int, typer.Option(min=2, help="How many demonstrations.")] = 4,
    sets: SetsOption = 3,
    items: ItemsOption = 50,
    orders: Annotated[int, typer.Option(min=2, help="In how many orders each set is read and trained on.")] = 10,
    optimisers: OptimisersOption = None,
    rates: RatesOption = None,
    epochs: EpochsOption = None,
    parts: PartsOption = None,
    demonstrations: PinnedOption = None,
    natural: NaturalOption = False,
    longest: LongestOption = None,
    shorten: ShortenOption = False,
    batch: BatchOption = 32,
    dtype: DtypeOption = "float32",
    revision: RevisionOption = None,
    download: DownloadOption = False,
    spread: SpreadOption = False,
    out: OutOption = OUT,
    resume: ResumeOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = DeviceChoice.auto,
    as_json: JsonOption = False,
) -> None:
    """Measure how much answers depend on the order of the same demonstrations, read and trained on.

    Example: insitu lm order --shots 4 --orders 5 --optimisers gd sgd1 adam --rates 0.001 --epochs 1 5
    """
    from insitu.language.measure.order import Orders, order_sensitivity
    from insitu.report.lm_pages import order_page, summary_of_order

    load = {"dtype": dtype, "revision": revision, "download": download, "spread": spread}
    rest = {
        "items": items,
        "longest": longest,
        "shorten": shorten,
        "pinned": demonstrations,
        "balanced": not natural,
        "batch": batch,
    }
    bench = bench_of(model, data, template, seed, device, shots, load, rest)
    descents = descents_of(optimisers or ["gd", "sgd1", "adam"], rates or [1e-3], parts)
    count = 1 if bench.pinned else sets
    setting = Orders(shots, count, orders, descents, tuple(sorted(set(epochs or [1, 2, 5]))))
    events = order_sensitivity(bench, setting, out, resume=resume)
    # Made as late as wrong input can be told.
    require_folder(out)
    records = followed(events)
    with told.status("drawing figures"):
        page = order_page(records, out)
    if as_json:
        print_json({"page": str(page), "arms": summary_of_order(records)})
    else:
        typer.echo(f"The page is {page}.")


@lm.command(cls=Spread)
def mask(
    model: ModelOption = "",
    train_data: Annotated[list[str] | None, typer.Option(help="Data to fine-tune on; mr if not given.")] = None,
    eval_data: Annotated[list[str] | None, typer.Option(help="Data held out, to ask about; subj if not given.")] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="Names or TOML files; one for all data, or one for each in their order.")
    ] = None,
    shots: Annotated[list[int] | None, typer.Option(help="Numbers of demonstrations; 4 if not given.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many fine-tunings under each mask.")] = 3,
    steps: Annotated[int, typer.Option(help="Updates of a fine-tuning.")] = 200,
    episodes: Annotated[int, typer.Option(help="Few-shot episodes in an update.")] = 8,
    rate: Annotated[float, typer.Option(help="The highest rate of AdamW.")] = 3e-4,
    items: ItemsOption = 100,
    longest: LongestOption = None,
    shorten: ShortenOption = False,
    batch: BatchOption = 32,
    dtype: DtypeOption = "float32",
    revision: RevisionOption = None,
    download: DownloadOption = False,
    out: OutOption = OUT,
    resume: ResumeOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = DeviceChoice.auto,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a model under the prefix mask and under the causal one, and compare them on data held out.

    Example: insitu lm mask --train-data mr --eval-data subj --shots 4 8 --seeds 3 --out results/mask
    """
    from insitu.language.measure.masks import FineTuning
    from insitu.language.measure.masks import mask as measured
    from insitu.report.lm_mask_page import mask_page, summary_of_mask

    setting = FineTuning(tuple(sorted(set(shots or [4]))), seeds, steps, episodes, rate)
    load = {"dtype": dtype, "revision": revision, "download": download}
    rest = {"items": items, "longest": longest, "shorten": shorten, "batch": batch}
    names = [*(train_data or ["mr"]), *(eval_data or ["subj"])]
    benches = benches_of(model, names, template or (), seed, device, max(setting.shots), load, rest)
    count = len(train_data or ["mr"])
    require_folder(out)
    with progress_bar("fine-tuning", steps) as bar:

        def tell(arm: str, step: int) -> None:
            bar.update(bar.task_ids[0], completed=step, description=escaped(arm))

        records = []
        for done, total, record in measured(benches[:count], benches[count:], setting, out, resume=resume, tell=tell):
            words = f"seed {record['set']}: {record['arm']}"
            told.print(f"{done:>4}/{total}  {escaped(words)}  [dim]{record['seconds']:.1f} s[/]", highlight=False)
            records.append(record)
    with told.status("drawing figures"):
        page = mask_page(records, out)
    if as_json:
        print_json({"page": str(page), **summary_of_mask(records)})
    else:
        typer.echo(f"The page is {page}.")


@lm.command(cls=Spread)
def weights(
    model: ModelOption = "",
    checkpoints: Annotated[
        list[Path] | None, typer.Option(help="Folders of checkpoints along pretraining, for their drift.")
    ] = None,
    data: Annotated[str, typer.Option(help="Also measure each checkpoint's accuracy in context on this data.")] = "",
    template: TemplateOption = "",
    shots: Annotated[int, typer.Option(min=1, help="How many demonstrations for that accuracy.")] = 4,
    sets: SetsOption = 3,
    items: ItemsOption = 100,
    out: OutOption = OUT,
    seed: SeedOption = 0,
    device: DeviceOption = DeviceChoice.auto,
    as_json: JsonOption = False,
) -> None:
    """Measure how sparse the matrices of queries, keys and values are, and how weights drift along pretraining.

    Example: insitu lm weights --model stories260K --out results/weights
    """
    from insitu.language import DEFAULT_MODEL
    from insitu.language.measure.drift import drift_along
    from insitu.language.measure.records import key_of, store_record
    from insitu.language.measure.sparsity import THRESHOLDS, find_weights, sparsities
    from insitu.report.lm_pages import weights_page

    found = find_weights(model or (checkpoints[-1] if checkpoints else DEFAULT_MODEL))
    require_folder(out)
    matrices = []
    with progress_bar("matrices", len(list(found.parts()))) as bar:
        for matrix in sparsities(found):
            matrices.append(vars(matrix))
            bar.advance(bar.task_ids[0])
    drift = []
    with progress_bar("checkpoints", len(checkpoints or ())) as bar:

        def open_bench(place: Path) -> "Bench":
            rest = {"items": items, "pinned": None}
            return bench_of(str(place), data, template, seed, device, shots, {}, rest)

        for row in drift_along(checkpoints or [], open_bench if data else None, shots, sets):
            drift.append(row)
            bar.advance(bar.task_ids[0])
    content = {"command": "weights", "model": found.folder.resolve().name, "thresholds": list(THRESHOLDS)}
    record = store_record(out, "weights", key_of(content), {**content, "matrices": matrices, "drift": drift})
    with told.status("drawing figures"):
        page = weights_page(record, out)
    if as_json:
        print_json({"page": str(page), "thresholds": list(THRESHOLDS), "matrices": matrices, "drift": drift})
    else:
        typer.echo(f"The page is {page}.")


@lm.command()
def pretrain(
    text: Annotated[Path, typer.Argument(help="UTF-8 text, plain or .xz; documents between lines <|endoftext|>.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, tokeniser, model card and state.")],
    heldout: Annotated[Path | None, typer.Option(help="Text to measure bits per byte on.")] = None,
    vocabulary: Annotated[int, typer.Option(help="How many tokens.")] = 2048,
    width: Annotated[int, typer.Option(help="Width of the residual stream.")] = 128,
    layers: Annotated[int, typer.Option(help="How many blocks.")] = 4,
    heads: Annotated[int, typer.Option(help="Attention heads of a block.")] = 4,
    inner: Annotated[int, typer.Option(help="Width inside the feed-forward parts.")] = 384,
    window: Annotated[int, typer.Option(help="Tokens of a block of text, and of a prompt.")] = 1024,
    batch: Annotated[int, typer.Option(help="Blocks that one step sees.")] = 4,
    steps: Annotated[int, typer.Option(help="How many steps.")] = 2000,
    rate: Annotated[float, typer.Option(help="The highest rate of AdamW.")] = 3e-3,
    snapshots: Annotated[int, typer.Option(min=1, help="At how many steps weights are kept.")] = 10,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the state in the folder.")] = False,
    seed: SeedOption = 0,
    device: DeviceOption = DeviceChoice.auto,
    as_json: JsonOption = False,
) -> None:
    """Pretrain a small language model on natural text; writes it as transformers reads it, with a model card.

    Example: insitu lm pretrain corpus.txt.xz --out runs/small --steps 2000
    """
    from insitu.device import pick_device
    from insitu.language.pretraining.pretraining import Pretraining, pretrain

    recipe = Pretraining(vocabulary, width, layers, heads, inner, window, batch, steps, rate, seed)
    place = pick_device(device.value)
    require_folder(out)
    with progress_bar("steps", steps) as bar:

        def tell(step: int, loss: float) -> None:
            bar.update(bar.task_ids[0], completed=step, description=f"loss {loss:.3f}")

        made = pretrain(recipe, text, out, heldout=heldout, resume=resume, snapshots=snapshots, tell=tell, device=place)
    parameters = sum(p.numel() for p in made.model.network.parameters())
    if as_json:
        print_json({"folder": str(out), "parameters": parameters, "bits_per_byte": made.bits})
    else:
        told_bits = "" if made.bits is None else f", {made.bits:.3f} bits per byte on held-out text"
        typer.echo(f"The model of {parameters:,} parameters is in {out}{told_bits}.")
