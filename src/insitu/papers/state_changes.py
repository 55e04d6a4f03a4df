"""What the claims of Dai et al. (2023) and Deutch et al. (2024) look at: how alike hidden states change.

In-context learning and a step of gradient descent on the same demonstrations both change the output of attention at the
last token. SimAOU is the cosine of the two changes (:mod:`insitu.language.models.hidden_states`), here with the
controls: an untrained network, the outputs as they are instead of scaled to length 1, and layer-causal descent
(:mod:`insitu.language.measure.layer_causal`). As in the papers, keys and values alone are trained.
"""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.claims import Figure, Panel, Run, Study, line
from insitu.language import Descent, Labelled, LanguageModel, Template, Weights, fine_tune, missing_model, pose
from insitu.language.measure.bench import Bench
from insitu.language.measure.layer_causal import layer_causal_step
from insitu.language.measure.unfinished import Unfinished
from insitu.language.models.hidden_states import AttentionStates, attention_states, similarities
from insitu.language.models.self_test import with_network
from insitu.language.models.untrained import without_training
from insitu.papers.shen2024.setting import AGNEWS, REDUCED, SMOLLM2, TextSource, prepare

__all__ = ["CHANGES", "FULL", "QUICK", "SMALLER", "StateSetting", "drawn", "missing_states", "state_changes"]

SCALED, NOISE, PLAIN = "SimAOU", "SimAOU (noise)", "SimAOU (not scaled)"
UNTRAINED, CAUSAL = "untrained, not scaled", "layer-causal, not scaled"
BARS = (SCALED, NOISE, PLAIN, UNTRAINED, CAUSAL)
SHORT = ("SimAOU", "noise", "not scaled", "untrained", "layer-causal")


@dataclass(frozen=True)
class StateSetting:
    """Whose states are compared.

    Args:
        source: The model and the texts.
        sets: How many demonstration sets.
        shots: How many demonstrations each holds.
        items: How many test texts are classified.
        rate: The rate of the one step on all demonstrations.
    """

    source: TextSource
    sets: int
    shots: int
    items: int
    rate: float


def missing_states(setting: StateSetting) -> str:
    """What keeps the model from being loaded."""
    return missing_model(setting.source.model)


def state_changes(run: Run) -> Mapping[str, Float[Tensor, " set"]]:
    """The similarities of every demonstration set, means over layers and questions."""
    s: StateSetting = run.setting
    bench = prepare(run, s.source, shots=s.shots, items=s.items)
    fresh = replace(bench, model=untrained_twin(bench))
    starts = [attention_states(b.model, b.questions, b.questions) for b in (bench, fresh)]
    kept = Unfinished(run.folder)
    rows = [
        kept.piece(f"set {number}").once(dict, functools.partial(one_set, bench, fresh, starts, number, s))
        for number in range(s.sets)
    ]
    return {name: torch.stack([row[name] for row in rows]) for name in BARS}


def untrained_twin(bench: Bench) -> LanguageModel:
    """The same network without its training."""
    network = copy.deepcopy(bench.model.network)
    network.load_state_dict(without_training(bench.model, bench.seed / "untrained"), strict=False)
    return with_network(bench.model, network)


def one_set(
    bench: Bench, fresh: Bench, starts: list[AttentionStates], number: int, s: StateSetting
) -> dict[str, Tensor]:
    """The similarities after one demonstration set."""
    trained, causal = similarities_of(bench, starts[0], number, s, (descent_step, layer_causal_step))
    (random,) = similarities_of(fresh, starts[1], number, s, (descent_step,))
    own = {name: trained[name] for name in (SCALED, NOISE, PLAIN)}
    return own | {UNTRAINED: random[PLAIN], CAUSAL: causal[PLAIN]}


Step = Callable[[LanguageModel, Template, Sequence[Labelled], Descent], Weights]


def descent_step(model: LanguageModel, template: Template, shown: Sequence[Labelled], how: Descent) -> Weights:
    """The weights after one step of ordinary descent on all demonstrations."""
    return next(fine_tune(model, template, shown, rate=how.rate, epochs=(1,), part=how.part))


def similarities_of(
    bench: Bench, start: AttentionStates, number: int, s: StateSetting, steps: Sequence[Step]
) -> list[dict[str, Tensor]]:
    """Means over questions of the similarities between reading demonstrations and each kind of step on them."""
    shown, how = bench.demonstrate(number, s.shots), Descent(s.rate, part="kv")
    prompts = pose(bench.model, bench.template, [bench.template.prompt(text, shown) for text in bench.texts])
    read = attention_states(bench.model, prompts, bench.questions)
    noise = bench.seed / "set" / number / "noise"
    found = []
    for step in steps:
        weights = step(bench.model, bench.template, shown, how)
        after = attention_states(bench.model, bench.questions, bench.questions, weights)
        found.append({name: values.mean() for name, values in similarities(read, after, start, noise).items()})
    return found


CHANGES = Study("states.changes", state_changes)


def drawn(shares: Mapping[str, Tensor]) -> Figure:
    """Every similarity, for each set and in the mean."""
    places = range(len(BARS))
    points = [
        line("" if place else "each set", [place] * len(shares[name]), shares[name], look="points", colour=0)
        for place, name in zip(places, BARS, strict=True)
    ]
    means = line("mean", places, [shares[name].mean().item() for name in BARS], look="points", colour=1)
    return Figure(
        (Panel("similarity of the two changes", "cosine of changes", (*points, means), x_names=SHORT),),
        "How alike in-context learning and a step of descent on the same demonstrations change the output of "
        "attention; noise is a random change, and the last three are not scaled.",
        f"Points of cosines for {', '.join(BARS)}.",
    )


# Changes of states are nearly linear in so small a step, and then the cosine does not depend on the rate.
QUICK = StateSetting(SMOLLM2, sets=4, shots=4, items=2, rate=1e-3)
FULL = StateSetting(AGNEWS, sets=5, shots=32, items=200, rate=1e-3)
SMALLER = f"{REDUCED}; four demonstrations, two questions and four demonstration sets; one step on all of them."
