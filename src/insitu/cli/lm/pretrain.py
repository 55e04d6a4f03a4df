"""``insitu lm pretrain``: a small language model from text."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, final

import typer

from insitu.cli.options import PlanOption, Sitting, Where
from insitu.cli.terminal import print_json, progress_bar
from insitu.errors import InputError

if TYPE_CHECKING:
    from insitu.language.pretraining.recipe import Pretraining

__all__ = ["pretrain"]


@dataclass(frozen=True)
class Sizes:
    """The sizes of the network, of its vocabulary and of its steps."""

    vocabulary: Annotated[int, typer.Option(help="Vocabulary size.")] = 2048
    width: Annotated[int, typer.Option(help="Width of the residual stream.")] = 128
    layers: Annotated[int, typer.Option(help="Number of layers.")] = 4
    heads: Annotated[int, typer.Option(help="Attention heads of a layer.")] = 4
    inner: Annotated[int, typer.Option(help="Hidden width of the feed-forward networks.")] = 384
    window: Annotated[int, typer.Option(help="Context length in tokens.")] = 1024
    batch: Annotated[int, typer.Option(help="Blocks of text in a step.")] = 4
    steps: Annotated[int, typer.Option(help="Training steps.")] = 2000
    rate: Annotated[float, typer.Option(help="Peak learning rate of AdamW.")] = 3e-3


@final
@dataclass(frozen=True)
class PretrainOptions(Sitting):
    """How long a pretraining goes on."""

    # For the state, which is stored after the step under way.
    reserve = 5.0
    grace = 15.0

    plan: PlanOption = False


def pretrain(
    sizes: Sizes,
    how_long: PretrainOptions,
    where: Where,
    text: Annotated[Path, typer.Argument(help="UTF-8 text, plain or .xz; documents between lines <|endoftext|>.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, tokeniser, model card and state.")],
    heldout: Annotated[Path | None, typer.Option(help="Text to measure bits per byte on.")] = None,
    mask: Annotated[
        Literal["causal", "prefix"] | None,
        typer.Option(
            help="Cut every block at a random place and train on what follows, under this mask; tokens before the cut "
            "see each other under prefix.",
        ),
    ] = None,
    snapshots: Annotated[int, typer.Option(min=1, help="Number of checkpoints that are kept.")] = 10,
) -> None:
    """Pretrain a small language model on natural text; writes it in the format of transformers, with a model card.

    With --mask the folder also gets a record of the loss on held-out continuations and the accuracy in context at every
    checkpoint.

    Example: insitu lm pretrain corpus.txt.xz --out runs/small --steps 2000
    """
    from insitu.language.measure.pretraining_history import HeldOut, probe_along, store_history
    from insitu.language.pretraining.pretraining import Pretraining
    from insitu.language.pretraining.pretraining import pretrain as pretrained
    from insitu.storage import require_folder

    recipe = Pretraining(**vars(sizes), seed=where.seed, mask=mask)
    if mask is not None and heldout is None:
        raise InputError("lm pretrain: --mask measures held-out continuations; name a held-out text (--heldout).")
    if how_long.plan:
        return show_plan(recipe, where)
    how = HeldOut()
    probe = probe_along(recipe, heldout, how) if mask and heldout else None
    device = where.place
    require_folder(out)
    with progress_bar("steps", sizes.steps) as bar:

        def tell(step: int, loss: float) -> None:
            bar.update(bar.task_ids[0], completed=step, description=f"loss {loss:.3f}")

        result = pretrained(
            recipe,
            text,
            out,
            heldout=heldout,
            resume=how_long.resumes,
            snapshots=snapshots,
            tell=tell,
            probe=probe,
            device=device,
        )
    if probe is not None and heldout is not None:
        store_history(out, result.model, recipe, {"training": text, "held-out": heldout}, how)
    parameters = sum(p.numel() for p in result.model.network.parameters())
    if where.as_json:
        print_json({"folder": str(out), "parameters": parameters, "bits_per_byte": result.bits})
    else:
        bits = "" if result.bits is None else f", {result.bits:.3f} bits per byte on held-out text"
        typer.echo(f"The model of {parameters:,} parameters is in {out}{bits}.")
    return None


def show_plan(recipe: "Pretraining", where: Where) -> None:
    """The predicted operations, memory and time of a pretraining, without what is measured at its snapshots."""
    from insitu.language.pretraining.forecast import forecast

    expected = forecast(recipe, where.place)
    if where.as_json:
        print_json(vars(expected))
    else:
        typer.echo(str(expected))
