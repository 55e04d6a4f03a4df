r"""Prefix against causal attention in one language model, ``insitu lm mask``.

One checkpoint is fine-tuned twice on the same few-shot episodes of several data sets, once with demonstrations that see
each other (the prefix mask) and once with causal attention, and then evaluated on data sets outside the mixture.
Nothing else differs: the same weights at the start, the same episodes in the same order, the same kernel, the same
demonstrations and questions. The loss asks for the word of the last text's label alone. Beside both stand the model
as it was, under either mask and without demonstrations.

References:
    Ding et al. (2024), section 5.3: T5 decoders pretrained and fine-tuned under either mask. A model that was
    pretrained causally has to get used to the other mask first; the paper claims nothing for those.
"""

import copy
import functools
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.budget import budget
from insitu.errors import InputError, require_count, require_not_negative
from insitu.language import Answers, Descent, Labelled, LanguageModel, Template, pose, require_trainable
from insitu.language.measure.bench import Bench, fallback, shown_for
from insitu.language.measure.compare import Kept
from insitu.language.measure.unfinished import NOWHERE, Unfinished
from insitu.language.models.in_context import read
from insitu.language.models.prefix_mask import Attention, prefix_lengths
from insitu.language.models.pretrained import quiet
from insitu.language.models.self_test import self_test, with_network
from insitu.language.pretraining.continuations import IGNORED, answer_losses
from insitu.language.pretraining.trainer import own_randomness, printer
from insitu.language.pretraining.trainer_states import newest_state, sealing_trainer
from insitu.language.texts.exclusions import SHARED
from insitu.language.texts.screening import content, without
from insitu.metrics import Estimate
from insitu.records import key_of
from insitu.seed import Seed

__all__ = [
    "ARMS",
    "TUNED",
    "Arm",
    "FewShotEpisode",
    "FineTuning",
    "advantage",
    "collate",
    "episode",
    "fine_tuned",
    "mask",
]


# Bytes of a state that a busy machine writes in a second.
WRITTEN = 1.5e8


@final
@dataclass(frozen=True)
class Arm:
    """A way of asking: which mask, whether fine-tuned under it, and whether demonstrations are shown at all."""

    name: str
    attention: Attention
    tuned: bool
    shown: bool = True


TUNED = {"prefix": Arm("prefix, fine-tuned", "prefix", True), "causal": Arm("causal, fine-tuned", "causal", True)}
ARMS = (
    Arm("zero-shot, as it was", "causal", False, shown=False),
    Arm("causal, as it was", "causal", False),
    Arm("prefix, as it was", "prefix", False),
    TUNED["causal"],
    TUNED["prefix"],
)


@final
@dataclass(frozen=True)
class FineTuning:
    """How the checkpoint is fine-tuned and evaluated.

    Args:
        shots: Numbers of demonstrations; an episode of the training has any of them, drawn evenly.
        seeds: How many fine-tunings, each on episodes of its own and evaluated after demonstrations of its own.
        steps: Updates by AdamW.
        batch: Episodes per update.
        rate: The highest rate; it rises over a tenth of the steps and falls linearly to zero.
        part: What is trained: *all*, or *lora:RANK* for low-rank adapters, which cost less.

    Raises:
        InputError: If a number is out of its range, or the part is neither.
    """

    shots: tuple[int, ...] = (4,)
    seeds: int = 3
    steps: int = 200
    batch: int = 8
    rate: float = 3e-4
    part: str = "all"

    def __post_init__(self) -> None:
        if not self.shots:
            raise InputError("lm mask: at least one number of demonstrations is needed.")
        for shots in self.shots:
            require_count("lm mask", "shots", shots, least=1)
        for name in ("seeds", "steps", "batch"):
            require_count("lm mask", name, getattr(self, name), least=1)
        require_not_negative("lm mask", "rate", self.rate, zero=False)
        if self.part != "all" and not self.part.startswith("lora:"):
            raise InputError(f"lm mask: part must be all or lora:RANK; got {self.part!r}.")


@final
@dataclass(frozen=True)
class FewShotEpisode:
    """Demonstrations, a text and its label, as tokens.

    Args:
        prompt: The tokens up to the answer.
        answer: Those of the right label's word.
        prefix: How many leading tokens are demonstrations.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    prefix: int


def episode(mixture: Sequence[Bench], shots: Sequence[int], seed: Seed) -> FewShotEpisode:
    """Draw an episode: a data set, a number of demonstrations, these and a text of its train part.

    Args:
        mixture: The data sets.
        shots: The numbers of demonstrations to draw from.
        seed: Where it is drawn.
    """
    bench = mixture[int(seed.integers(len(mixture), 1).item())]
    count = shots[int((seed / "shots").integers(len(shots), 1).item())]
    *shown, asked = bench.corpus.demonstrate(seed / "rows", count + 1, balanced=False)
    return encoded(bench.model, bench.template, shown, asked)


def encoded(model: LanguageModel, template: Template, shown: Sequence[Labelled], query: Labelled) -> FewShotEpisode:
    prompt = template.prompt(query.text, shown)
    (question,) = pose(model, template, [prompt])
    (prefix,) = prefix_lengths(model, template.stem(shown), [prompt]).tolist()
    return FewShotEpisode(question.prompt, dict(question.words)[query.label], prefix)


def collate(episodes: Sequence[FewShotEpisode], attention: Attention) -> dict[str, Tensor]:
    """Episodes padded on the right: tokens, the length of each one's prefix, and the answer as the target."""
    size = max(len(e.prompt) + len(e.answer) for e in episodes)
    ids = torch.zeros(len(episodes), size, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    for row, wanted, one in zip(ids, labels, episodes, strict=True):
        end = len(one.prompt) + len(one.answer)
        row[:end] = torch.tensor((*one.prompt, *one.answer))
        wanted[len(one.prompt) : end] = torch.tensor(one.answer)
    inside = torch.tensor([one.prefix if attention == "prefix" else 0 for one in episodes])
    return {"input_ids": ids, "prefix": inside, "labels": labels}


def episode_loss(network: Any, batch: dict[str, Tensor], *, padding: bool = True) -> Tensor:
    """The mean negative log-probability of the tokens of the answers.

    Args:
        network: The network.
        batch: Episodes as :func:`collate` gives them.
        padding: Whether they are read together, padded on the right, or each by itself.
    """
    count = len(batch["labels"])
    rows = [slice(None)] if padding else [slice(i, i + 1) for i in range(count)]
    parts = [answer_losses(network, {name: t[row] for name, t in batch.items()}) for row in rows]
    return torch.cat(parts).mean()


def fine_tuned(
    mixture: Sequence[Bench],
    setting: FineTuning,
    attention: Attention,
    seed: Seed,
    tell: Callable[[int], None] = lambda step: None,
    kept: Unfinished = NOWHERE,
) -> LanguageModel:
    """The model after fine-tuning under a mask, by the Trainer of transformers, in float32.

    Args:
        mixture: The data sets; all of one model, which stays as it is.
        setting: How to train.
        attention: Under which mask.
        seed: Where episodes are drawn; the same seed gives the same episodes under either mask.
        tell: Called with the number of finished steps.
        kept: Where the training is kept when the budget is spent before its end, and taken up.

    Raises:
        InputError: If an episode is longer than the model's window, or the state is damaged.
        OutOfTimeError: If the budget of the process is spent before the end.
        StorageError: If the state cannot be written.
    """
    from transformers import TrainingArguments

    model = mixture[0].model
    test = self_test(model)
    test.require_prefix(0)

    def loss(network: Any, batch: dict[str, Tensor]) -> Tensor:
        return episode_loss(network, batch, padding=test.shortcuts(batch["input_ids"].shape[1]).padding)

    # The Trainer makes its folder even where it saves nothing.
    with own_randomness(), quiet(), tempfile.TemporaryDirectory() as nothing:
        network, finished = trainable(model, setting)
        place = model.device
        folder = Path(nothing) if kept.own is None else kept.own / "training"
        last = newest_state(folder) if kept.resume else None
        arguments = TrainingArguments(
            output_dir=str(folder),
            max_steps=setting.steps,
            per_device_train_batch_size=setting.batch,
            learning_rate=setting.rate,
            warmup_steps=max(1, setting.steps // 10),
            weight_decay=0.0,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            train_sampling_strategy="sequential",
            dataloader_pin_memory=False,
            seed=int((seed / "trainer").integers(2**31 - 1, 1).item()),
            use_cpu=place.type == "cpu",
        )
        arguments._n_gpu = min(1, arguments.n_gpu)  # a batch stays on the device that its prefix lengths are on
        trainer = sealing_trainer(folder, loss)(
            network,
            arguments,
            train_dataset=FewShotEpisodes(mixture, setting, seed),
            data_collator=lambda drawn: collate(drawn, attention),
            callbacks=[sitting(tell, None if kept.own is None else state_bytes(network))],
        )
        trainer.remove_callback(printer())
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if trainer.state.global_step < setting.steps:
        raise budget().over()
    trained = finished().eval().requires_grad_(False).to(place)
    return with_network(model, trained)


def state_bytes(network: Any) -> int:
    """The size of a state: the weights, and two moments of those that are trained."""
    return sum(w.numel() * w.element_size() * (3 if w.requires_grad else 1) for w in network.parameters())


def sitting(tell: Callable[[int], None], size: int | None) -> Any:
    """What watches the Trainer: tells of steps, and ends a training for which the budget has no further step.

    A step of a large model, and its state, may take longer than what is kept of a budget for its end. The state after
    the last step is stored too where there is a budget, since what comes next may be cut short.

    Args:
        tell: Called with the number of finished steps.
        size: The bytes of a state; none is stored if none.
    """
    from transformers import TrainerCallback

    class Sitting(TrainerCallback):
        begun = time.monotonic()

        def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self.begun = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            tell(state.global_step)
            needed = time.monotonic() - self.begun + (size or 0) / WRITTEN
            control.should_training_stop = budget().left <= needed
            ends = control.should_training_stop or state.global_step == state.max_steps
            control.should_save = size is not None and ends and budget().left < math.inf

        def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            budget().advanced = True

    return Sitting()


def trainable(model: LanguageModel, setting: FineTuning) -> tuple[Any, Callable[[], Any]]:
    """What the Trainer trains, in float32, and what makes a network of the model's kind of it afterwards."""
    if setting.part == "all":
        network = copy.deepcopy(model.network).float().requires_grad_(True)
        return network, lambda: network
    chosen = require_trainable(model, Descent(setting.rate, part=setting.part))
    adapted = {name: weight for name, weight in chosen.network.named_parameters() if name in chosen.masks}
    for weight in adapted.values():
        weight.requires_grad_(True)

    def finished() -> Any:
        weights = chosen.merge({name: weight.detach() for name, weight in adapted.items()})
        # What is not adapted is shared with the model.
        kept = {id(t): t for name, t in model.network.named_parameters() if name not in weights}
        merged = copy.deepcopy(model.network, kept)
        merged.load_state_dict(weights, strict=False)
        return merged

    return chosen.network, finished


class FewShotEpisodes(torch.utils.data.Dataset[FewShotEpisode]):
    """The episodes of a fine-tuning, drawn when they are needed."""

    def __init__(self, mixture: Sequence[Bench], setting: FineTuning, seed: Seed) -> None:
        self.mixture, self.setting, self.seed = mixture, setting, seed

    def __len__(self) -> int:
        return self.setting.steps * self.setting.batch

    def __getitem__(self, i: int) -> FewShotEpisode:
        return episode(self.mixture, self.setting.shots, self.seed / i)


def without_items(bench: Bench, held_out: Sequence[Bench]) -> Bench:
    """Leave out the rows to train on whose text is to be answered; white space does not count.

    Raises:
        InputError: If a label is left without rows.
    """
    tested = {content(row) for other in held_out for row in other.items}
    shared = {i: SHARED for i, row in enumerate(bench.corpus.train) if content(row) in tested}
    return replace(bench, corpus=without(bench.corpus, shared, {})) if shared else bench


def mask(
    mixture: Sequence[Bench],
    held_out: Sequence[Bench],
    setting: FineTuning,
    folder: Path | None = None,
    *,
    resume: bool = False,
    arms: Sequence[Arm] = ARMS,
    tell: Callable[[str, int], None] = lambda arm, step: None,
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Measure; yields how many records are done, of how many, and the record, one for each arm and seed.

    Args:
        mixture: The data sets to fine-tune on.
        held_out: Those to evaluate on.
        setting: How to train and to ask.
        folder: Where records are kept; nowhere if None.
        resume: Whether to take what the same configuration has left there.
        arms: The ways of asking.
        tell: Called with an arm and its finished steps of training.

    Raises:
        InputError: If a data set is in both lists, an episode is too long, or the model cannot be read under
            the mask.
        StorageError: If a record cannot be written.
    """
    both = {b.corpus.name for b in mixture} & {b.corpus.name for b in held_out}
    if both or not mixture or not held_out:
        raise InputError(
            f"lm mask: data to train on and data held out must differ, and neither be empty; in both: {sorted(both)}. "
            "Name other data sets with --train-data and --eval-data."
        )
    mixture = [without_items(bench, held_out) for bench in mixture]
    self_test(mixture[0].model).require_prefix(0)
    return masked(mixture, held_out, setting, folder, resume, arms, tell)


def masked(
    mixture: Sequence[Bench],
    held_out: Sequence[Bench],
    setting: FineTuning,
    folder: Path | None,
    resume: bool,
    arms: Sequence[Arm],
    tell: Callable[[str, int], None],
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    about = {"train": [b.about() for b in mixture], "eval": [b.about() for b in held_out], "how": asdict(setting)}
    total, done = setting.seeds * len(arms), 0
    for number in range(setting.seeds):
        for arm in arms:
            common = {"arm": arm.name, "shots": "-".join(map(str, setting.shots)), "set": number}
            place = Kept({"kind": "lm mask", **about, **common}, folder, resume)
            kept = Unfinished(folder, resume, place.configuration)
            record = place.found or place.store(measured(mixture, held_out, setting, arm, number, kept, tell))
            kept.forget()
            done += 1
            yield done, total, record


def measured(
    mixture: Sequence[Bench],
    held_out: Sequence[Bench],
    setting: FineTuning,
    arm: Arm,
    number: int,
    kept: Unfinished,
    tell: Callable[[str, int], None],
) -> dict[str, Any]:
    """What the record of an arm and a seed holds beside its configuration."""
    started = time.perf_counter()
    model = mixture[0].model
    if arm.tuned:
        seed = mixture[0].seed / "fine-tuning" / number
        model = fine_tuned(mixture, setting, arm.attention, seed, functools.partial(tell, arm.name), kept)
    evaluations = [answered(bench, model, arm, setting, number, kept) for bench in held_out]
    seconds = round(time.perf_counter() - started, 3)
    shown = [(bench, bench.demonstrate(number, max(setting.shots))) for bench in held_out]
    return {"asked": evaluations, "fallback": fallback(shown), "seconds": seconds}


def answered(
    bench: Bench, model: LanguageModel, arm: Arm, setting: FineTuning, number: int, kept: Unfinished = NOWHERE
) -> dict[str, Any]:
    """Which questions of a held-out data set are answered rightly, by the likeliest label word, per number of shots."""
    sets = {shots: bench.demonstrate(number, shots) if arm.shown else () for shots in setting.shots}

    # Without demonstrations the answers are those of every number of them.
    @functools.cache
    def rightly(shown: tuple[Labelled, ...]) -> list[int]:
        answers = kept.piece(key_of({"data": bench.corpus.name, "shots": len(shown)})[:16]).once(
            Answers,
            lambda: read(model, bench.template, shown, bench.texts, attention=arm.attention, batch=bench.batch),
        )
        require_finite(answers, setting.rate)
        return (answers.labels.argmax(1) == bench.right).int().tolist()

    return {
        "data": bench.corpus.name,
        "items": [row.id for row in bench.items],
        "demonstrations": shown_for(sets[max(setting.shots)]),
        "right": {str(shots): rightly(shown) for shots, shown in sets.items()},
    }


def require_finite(answers: Answers, rate: float) -> None:
    """Refuse the answers of a model that fine-tuning has broken.

    Raises:
        InputError: If they are no numbers.
    """
    if not answers.labels.isfinite().all():
        raise InputError(
            f"lm mask: fine-tuning at rate {rate:g} broke the model: it answers with {answers.labels.min().item()}. "
            "Take a smaller rate."
        )


def rightness(records: Sequence[dict[str, Any]], arm: str) -> Float[Tensor, "seed question"]:
    """Whether each question was answered rightly, a question being one of a data set after one number of shots."""
    rows = [r["asked"] for r in sorted(records, key=lambda r: int(r["set"])) if r["arm"] == arm]
    flat = [[v for evaluation in row for own in evaluation["right"].values() for v in own] for row in rows]
    return torch.tensor(flat, dtype=torch.float64)


def advantage(records: Sequence[dict[str, Any]], ahead: str, behind: str) -> Estimate:
    r"""The mean of one arm's accuracy minus another's, on the same questions after the same demonstrations.

    Fine-tunings and questions are both samples: the squared errors of the mean over either add up, and the degrees of
    freedom follow Welch and Satterthwaite. With a single seed only the questions count. No error is smaller than the
    weight of one question: arms that answer all of them alike are not known to be equal on others.
    """
    gap = rightness(records, ahead) - rightness(records, behind)
    parts = [Estimate.mean(means) for means in (gap.mean(0), gap.mean(1)) if len(means) > 1]
    error = math.hypot(*(p.error for p in parts))
    questions = gap.shape[1]
    if error * questions <= 1:
        return Estimate(gap.mean().item(), 1 / questions, questions)
    freedom = error**4 / sum(p.error**4 / ((p.samples or 2) - 1) for p in parts)
    return Estimate(gap.mean().item(), error, max(2, math.floor(freedom) + 1))
