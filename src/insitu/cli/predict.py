"""``insitu predict``: the answers of a learner or a checkpoint to prompts in a file."""

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insitu.cli.options import DeviceChoice, DeviceOption, HiddenSeed, JsonOption
from insitu.cli.terminal import print_json, progress_bar, warn
from insitu.errors import InputError, StepSizeWarning, shortened

if TYPE_CHECKING:
    from insitu.predictor import Predictor
    from insitu.prompt import Prompt

__all__ = ["answer_in_chunks", "predict"]

# Prompts that are answered at a time at most, the numbers that one chunk may need (256 MB), and the seconds after
# which a progress bar appears.
CHUNK = 4096
NUMBERS = 2**25
PATIENCE = 2.0


def predict(
    learner: Annotated[
        str, typer.Argument(help="A learner or a checkpoint: 'Ridge(penalty=0.25)', 'Checkpoint(\"folder\")'.")
    ],
    prompts: Annotated[Path, typer.Option(help="P.npz with xs, ys and queries.")],
    out: Annotated[Path, typer.Option(help="A.npz to write the answers to.")],
    seed: HiddenSeed = 0,
    device: DeviceOption = DeviceChoice.auto,
    as_json: JsonOption = False,
) -> None:
    """Answer prompts with a reference learner or a checkpoint.

    Example: insitu predict 'GradientDescent(steps=5, rate=0.5)' --prompts P.npz --out A.npz
    """
    from insitu.device import pick_device
    from insitu.exchange import load_prompts, save_answers
    from insitu.models import named_predictor

    predictor = named_predictor(learner)
    place = pick_device(device.value)
    file = load_prompts(prompts)
    refuse_overwriting(out, prompts)
    answers = answer_in_chunks(predictor, file.prompt, place)
    save_answers(out, answers, scalar=file.scalar)
    shape = list(answers.shape[: 2 if file.scalar else 3])
    if as_json:
        print_json({"learner": repr(predictor), "answers": str(out), "shape": shape})
    else:
        typer.echo(f"{learner} answered {shape[0]} prompts; the answers {tuple(shape)} are in {out}.")


def refuse_overwriting(out: Path, prompts: Path) -> None:
    """Refuse an output that is a folder, or the prompts themselves."""
    if out.is_dir():
        raise InputError(f"{out} is a folder; expected the name of the npz file to write. Choose another --out.")
    if out.exists() and prompts.exists() and out.samefile(prompts):
        raise InputError(f"--out {out} is the prompts themselves; choose another name so that they are not lost.")


def answer_in_chunks(predictor: "Predictor", prompt: "Prompt", device: Any) -> Any:
    """Predict chunk by chunk, with a bar once it takes long; of several warnings the strictest is shown."""
    import torch

    from insitu.prompt import Prompt

    if isinstance(predictor, torch.nn.Module):
        predictor.to(device)
    size = prompt.points * prompt.dim * max(prompt.dim, prompt.queries.shape[1], prompt.out)
    chunk = max(1, min(CHUNK, NUMBERS // size))
    parts = list(zip(*(t.split(chunk) for t in (prompt.xs, prompt.ys, prompt.queries)), strict=True))
    cautions: list[StepSizeWarning] = []
    answers, started = [], time.monotonic()
    with torch.no_grad(), progress_bar("prompts", len(parts)) as bar:
        bar.tasks[0].visible = False
        for part in parts:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", StepSizeWarning)
                answers.append(answer(predictor, Prompt(*part).to(device)).cpu())
            cautions += [w.message for w in caught if isinstance(w.message, StepSizeWarning)]
            bar.advance(bar.task_ids[0])
            bar.update(bar.task_ids[0], visible=time.monotonic() - started > PATIENCE)
    if cautions:
        warn(str(min(cautions, key=lambda caution: caution.limit)))
    return torch.cat(answers)


def answer(predictor: "Predictor", prompt: "Prompt") -> Any:
    """Predict, and refuse answers that float64 cannot hold."""
    import torch

    try:
        answers = predictor.predict(prompt)
        finite = bool(answers.isfinite().all())
    except (torch.linalg.LinAlgError, OverflowError):  # type: ignore[attr-defined]
        finite = False
    if not finite:
        raise InputError(
            f"{shortened(repr(predictor))}: some answers are not finite. The iteration diverges, the stored weights "
            f"are not finite, or numbers leave the range of float64 (the largest input here is "
            f"{prompt.xs.abs().max().item():.3g}); lower the rate or rescale the prompts."
        )
    return answers
