"""The mask in a pretrained language model, fine-tuned under either mask."""

from dataclasses import dataclass, replace
from typing import Any

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, Study, line
from insitu.language import missing_model
from insitu.language.measure.masks import ARMS, TUNED, Arm, FineTuning, advantage, mask, rightness
from insitu.papers.shen2024.setting import SMOLLM2, TextSource, power, prepare

__all__ = ["CLAIMS", "MaskedFineTunings"]

# The quantities that measurements estimate and rules decide.
PREFIX_GAIN = "prefix minus causal, fine-tuned, accuracy"


@dataclass(frozen=True)
class MaskedFineTunings:
    """A checkpoint fine-tuned under both masks.

    Args:
        train: What it is fine-tuned on; the model of the first is taken.
        held_out: The data sets that it is evaluated on.
        how: How it is fine-tuned and evaluated.
        arms: The ways of asking.
        items: How many questions of each data set.
    """

    train: tuple[TextSource, ...]
    held_out: tuple[TextSource, ...]
    how: FineTuning
    arms: tuple[Arm, ...]
    items: int


def missing_masked(setting: MaskedFineTunings) -> str:
    """What keeps the model from being loaded."""
    return missing_model(setting.train[0].model)


def fine_tunings(run: Run) -> list[dict[str, Any]]:
    """The records of ``insitu lm mask``."""
    setting: MaskedFineTunings = run.setting
    sides = [
        [prepare(run, source, shots=max(setting.how.shots), items=setting.items) for source in sources]
        for sources in (setting.train, setting.held_out)
    ]
    model = sides[0][0].model
    mixture, held_out = ([replace(bench, model=model) for bench in side] for side in sides)
    return [record for _, _, record in mask(mixture, held_out, setting.how, run.folder, resume=True, arms=setting.arms)]


FINE_TUNINGS = Study("ding2024.fine_tunings", fine_tunings)


def prefix_helps(run: Run, *, ahead: str = TUNED["prefix"].name, behind: str = TUNED["causal"].name) -> Measurement:
    """What the prefix mask is ahead by on data held out, and every arm's accuracy."""
    records: list[dict[str, Any]] = run.study
    arms = run.setting.arms
    places = range(len(arms))
    seeds = [rightness(records, arm.name).mean(1) for arm in arms]
    points = [
        line("each seed" if i == 0 else "", [place] * len(own), own, look="points", colour=0)
        for i, (place, own) in enumerate(zip(places, seeds, strict=True))
    ]
    means = line("mean", places, [own.mean().item() for own in seeds], look="points", colour=1)
    names = tuple(arm.name for arm in arms)
    figure = Figure(
        (Panel("fine-tuning", "accuracy on data held out", (*points, means), x_names=names),),
        "One checkpoint, fine-tuned under either mask and tested on data that was not in the mixture.",
        f"Points of accuracy for {len(arms)} arms.",
    )
    estimates = {PREFIX_GAIN: advantage(records, ahead, behind)}
    return Measurement(estimates, figure, (power(estimates),))


FULL = tuple(
    TextSource("huggyllama/llama-7b", f"hub:{name}", template)
    for name, template in (("fancyzhx/ag_news", "agnews"), ("SetFit/subj", "subj"), ("stanfordnlp/sst2", "sst2"))
)

CLAIMS = (
    Claim(
        id="ding2024.prefix-helps-language-models",
        statement="A language model fine-tuned on few-shot episodes with demonstrations that see each other answers "
        "data held out of the mixture better than the same checkpoint fine-tuned causally.",
        source="Section 5.3, table 2",
        rules=(
            Rule(
                PREFIX_GAIN,
                low=0.0,
                printed="MMLU +0.8, +5.1, +9.0; BBH +2.6, +2.4, +3.8 points for three sizes",
            ),
        ),
        measure=prefix_helps,
        quick=MaskedFineTunings(
            (SMOLLM2,),
            (replace(SMOLLM2, data="subj", template="subj"),),
            FineTuning(shots=(2,), seeds=5, steps=4, batch=2, rate=2e-3, part="lora:8"),
            tuple(TUNED.values()),
            16,
        ),
        full=MaskedFineTunings(FULL[:2], FULL[2:], FineTuning(shots=(4, 8), seeds=3, steps=2000), ARMS, 1000),
        quick_seconds=36.0,
        quick_gigabytes=0.7,
        full_hours=12.0,
        reduced="SmolLM2-135M-Instruct, 4-bit weights computed in float32, pretrained causally, in place of T5 "
        "decoders pretrained under either mask; low-rank adapters trained for four steps; short sentences, MR to "
        "fine-tune on and subj held out, in place of FLAN, MMLU and BBH.",
        study=FINE_TUNINGS,
        missing=missing_masked,
        version=2,
    ),
)
