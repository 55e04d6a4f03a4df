"""The Trainer of transformers on blocks of tokens: state, snapshots and metrics in a folder."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from insitu.budget import OutOfTimeError, budget
from insitu.errors import InputError
from insitu.language.models.pretrained import LanguageModel, quiet
from insitu.language.pretraining.continuations import answer_losses, continuation, cuts
from insitu.language.pretraining.recipe import DECAY, METRICS, SNAPSHOTS, STATE, Pretraining
from insitu.language.pretraining.trainer_states import newest_state, sealing_trainer, step_of
from insitu.seed import Seed
from insitu.storage import append, seal, write_atomically, writing
from insitu.training.session import checked, read_metrics

__all__ = ["Probe", "run_trainer"]

# What is measured at every snapshot.
Probe = Callable[[LanguageModel], dict[str, Any]]


def run_trainer(  # noqa: PLR0913 - what the command takes
    recipe: Pretraining,
    tokenizer: Any,
    blocks: np.ndarray,
    folder: Path,
    *,
    probe: Probe,
    count: int,
    seconds: float,
    resume: bool,
    tell: Callable[[int, float], None],
    device: torch.device | None,
) -> Any:
    """Train and return the network; see :func:`~insitu.language.pretraining.pretraining.pretrain`."""
    from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

    state = folder / STATE
    last = newest_state(state) if resume else None
    cut_metrics(folder, 0 if last is None else step_of(last))
    with own_randomness(), quiet():
        torch.manual_seed(recipe.seed)
        separator = tokenizer.bos_token_id
        network = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=recipe.vocabulary,
                hidden_size=recipe.width,
                num_hidden_layers=recipe.layers,
                num_attention_heads=recipe.heads,
                num_key_value_heads=recipe.heads,
                intermediate_size=recipe.inner,
                max_position_embeddings=recipe.window,
                tie_word_embeddings=True,
                bos_token_id=separator,
                eos_token_id=separator,
            )
        )
        decay = max(1, round(DECAY * recipe.steps))
        arguments = TrainingArguments(
            output_dir=str(state),
            max_steps=recipe.steps,
            per_device_train_batch_size=recipe.batch,
            learning_rate=recipe.rate,
            lr_scheduler_type="warmup_stable_decay",
            lr_scheduler_kwargs={"num_decay_steps": decay, "min_lr_ratio": 0.02},
            # Not a share of the steps, so that a training of another length begins alike.
            warmup_steps=min(100, max(1, recipe.steps - decay - 1)),
            weight_decay=0.1,
            adam_beta2=0.98,
            max_grad_norm=1.0,
            # A mean over several steps would not survive an interruption between them.
            logging_steps=1,
            # In the order of the text: a random one would depend on how many blocks there are.
            train_sampling_strategy="sequential",
            save_strategy="no",
            seed=recipe.seed,
            data_seed=recipe.seed,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,  # the forward pass does not know the length of a prefix
            use_cpu=device is not None and device.type == "cpu",
        )
        trainer = sealing_trainer(state, None if recipe.mask is None else mean_loss)(
            network,
            arguments,
            train_dataset=TextBlocks(blocks, recipe),
            callbacks=[keeper(recipe, LanguageModel("", network, tokenizer), folder, probe, count, seconds, tell)],
        )
        trainer.remove_callback(printer())
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if trainer.state.global_step < recipe.steps:
        raise OutOfTimeError(
            f"the time is over after {trainer.state.global_step} of {recipe.steps} steps, which are stored in "
            f"{folder}. The same command with --resume or --budget continues from there."
        )
    return network.cpu()


def cut_metrics(folder: Path, done: int) -> None:
    """Keep the rows of the steps that were done; those after the last stored state are made again."""
    rows = [row for row in read_metrics(folder) if row["step"] <= done] if done else []
    if [row["step"] for row in rows if "loss" in row] != list(range(1, done + 1)):
        raise InputError(
            f"{folder / METRICS} does not hold the losses of all {done} steps that were trained. Restore the file, or "
            "start again without --resume."
        )
    write_atomically(folder / METRICS, "".join(f"{json.dumps(row)}\n" for row in rows).encode())


class TextBlocks(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Blocks of tokens as the Trainer reads them, cut where the recipe has a mask."""

    def __init__(self, blocks: np.ndarray, recipe: Pretraining) -> None:
        self.blocks, self.recipe = blocks, recipe

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        if self.recipe.mask is None:
            ids = torch.from_numpy(self.blocks[i].astype(np.int64))
            return {"input_ids": ids, "labels": ids}
        (cut,) = cuts(Seed(self.recipe.seed), [i], self.recipe.window).tolist()
        return continuation(self.blocks[i], cut, self.recipe.mask)


def mean_loss(network: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The mean loss of continuations."""
    return answer_losses(network, batch).mean()


def printer() -> type:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


def keeper(
    recipe: Pretraining,
    model: LanguageModel,
    folder: Path,
    probe: Probe,
    count: int,
    seconds: float,
    tell: Callable[[int, float], None],
) -> Any:
    """What watches the Trainer: tells of steps, keeps snapshots and metrics, and asks for the state to be written."""
    from transformers import TrainerCallback

    due = {round(recipe.steps * (i + 1) / count) for i in range(count)}

    class Keeper(TrainerCallback):
        written = time.monotonic()
        loss = float("nan")

        def on_log(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            logs = rest["logs"]
            if "loss" in logs:
                Keeper.loss = float(logs["loss"])
                self.note({"step": state.global_step, "loss": Keeper.loss, "rate": float(logs["learning_rate"])})

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            step = state.global_step
            tell(step, Keeper.loss)
            if step in due:
                self.keep(folder / SNAPSHOTS / f"step-{step:06d}")
                model.network.eval()
                if numbers := probe(model):
                    self.note({"step": step, **numbers})
                model.network.train()
            control.should_training_stop = budget().spent
            if step == recipe.steps or budget().spent or time.monotonic() - Keeper.written > seconds:
                control.should_save = True
                Keeper.written = time.monotonic()

        def keep(self, place: Path) -> None:
            # float32 becomes float16 on disk: half the size, and differences between snapshots stay far above it.
            halves = {name: w.detach().half() for name, w in model.network.state_dict().items()}
            with writing(place):
                model.network.save_pretrained(str(place), state_dict=halves)
                model.tokenizer.save_pretrained(str(place))
            seal(place)

        def note(self, row: dict[str, Any]) -> None:
            append(folder / METRICS, json.dumps(checked(row)) + "\n")

    return Keeper()


@contextlib.contextmanager
def own_randomness() -> Iterator[None]:
    """Inside, the Trainer may seed the global generators; afterwards they are as before."""
    import random

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
