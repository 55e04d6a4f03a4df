"""The claims about language models: settings small enough for a test, wrong parts, and answers made up to fit.

A claim that the bundled model does not bear out is a result; whether it is measured rightly is seen on made-up findings
in which it is true.
"""

import functools
from dataclasses import replace

import torch
from tests.papers.made_up_numbers import number_cases

from insitu.language.measure.masks import ARMS, TUNED
from insitu.language.models.weight_patch import weight_patches
from insitu.papers import claims
from insitu.papers.deutch2024 import ScaledChanges
from insitu.papers.dherin2025 import Patches, patched_answers
from insitu.papers.ding2024.pretraining import Histories
from insitu.papers.shen2024.orders import Profiles
from insitu.papers.shen2024.overlaps import Compared
from insitu.papers.shen2024.setting import TextSource
from insitu.papers.shen2024.sparsity import History
from insitu.papers.state_changes import CAUSAL, NOISE, PLAIN, SCALED, UNTRAINED
from insitu.seed import Seed

SETS = 6


def about(value, *shape, place):
    """Numbers that scatter a little around a value, as demonstration sets do."""
    return value * (1 + 0.02 * (Seed(0) / place).normal(*shape))


def made_up_profiles(run):
    """Reading depends on the order, descent the less the larger its batch, and neither cancels the other."""
    levels = {"in context": 0.12, "gd": 1e-6, "sgd1": 0.03, "sgd2": 0.02, "sgd4": 0.01, "adam": 0.015, "loud": 0.5}
    measures = {}
    for arm, sen in levels.items():
        shape = (SETS, 1) if arm == "in context" else (SETS, 2)
        same = 0.0 if arm == "in context" else 1.0
        measures[arm] = {
            "Sen": about(sen, *shape, place=arm),
            "KL from the start": about(0.5, *shape, place=f"{arm} KL"),
            "Theorem 1: difference": about(same, *shape, place=f"{arm} difference"),
            "Theorem 1: cosine": about(1.0 - same + 1e-3, *shape, place=f"{arm} cosine"),
        }
    return Profiles(measures, {arm: about(1e-6, SETS, place=f"{arm} floor") for arm in levels})


def made_up_answers(run):
    """Training is nearer to reading than nothing is, and further than reading in another order."""
    levels = {"in context": 0.9, "another order": 0.8, "zero-shot": 0.2, "untrained": 0.05}
    trained = {"gd all": "all", "gd mid": "value:mid", "gd deep": "value:deep"}
    shots, epochs = (2, 4, 8), (1, 2)
    names = (
        "accuracy",
        "token overlap",
        *(f"overlap cosine ({p})" for p in ("guarded", "plus one", "plain", "additive")),
    )
    measures = {
        arm: {name: about(level, 3, SETS, 1, place=f"{arm} {name}") for name in names} for arm, level in levels.items()
    }
    measures |= {arm: {name: about(0.5, 3, SETS, 2, place=f"{arm} {name}") for name in names} for arm in trained}
    for arm, level in (("in context", 0.9), ("zero-shot", 0.7), *((arm, 0.8) for arm in trained)):
        epochs_of = measures[arm]["accuracy"].shape[-1]
        measures[arm]["restricted accuracy"] = about(level, 3, SETS, epochs_of, place=f"{arm} restricted")
    return Compared(measures, trained, shots, epochs)


def fine_tunings_in_which_prefix_helps(_run=None, seeds=4, items=50):
    """Records of ``insitu lm mask`` whose questions are answered rightly more often by one arm than by the others."""
    records = []
    for number in range(seeds):
        for arm in ARMS:
            chance = 0.8 if arm == TUNED["prefix"] else 0.5
            luck = 0.2 * ((Seed(0) / number / "luck").uniform(1) - 0.5)
            right = ((Seed(0) / number / arm.name).uniform(items) < chance + luck).int().tolist()
            asked = [{"data": "made up", "items": [], "right": {"4": right}}]
            records.append({"arm": arm.name, "set": number, "asked": asked})
    return records


def unnormalised_cosine(p, q, k=10):
    """The overlap cosine without its denominator."""
    return (p * q).topk(k).values.sum(-1)


def pruned(matrix):
    """Almost all entries zero, as in a construction."""
    return matrix * (matrix.abs() > matrix.abs().quantile(0.9))


def made_up_history(run):
    """The weights move on, and accuracy stays where it was."""
    return History(tuple(range(8)), torch.arange(8, dtype=torch.float64), 0.8 + about(0.01, 8, SETS, place="history"))


def forgotten(history):
    """A history in which reading is lost while the weights move."""
    falling = torch.linspace(0.0, 0.3, len(history.steps), dtype=torch.float64)[:, None]
    return replace(history, accuracy=history.accuracy - falling)


ZERO = {"reading": "zero-shot"}
STUDIED = {
    "reading-depends-on-order": ({"arm": "gd"}, made_up_profiles),
    "full-batch-descent-is-order-stable": ({"arm": "sgd1"}, made_up_profiles),
    "stochastic-descent-is-order-stable": ({"arms": ("in context",) * 4}, made_up_profiles),
    "smaller-batches-depend-more-on-order": ({"arms": ("gd", "sgd4", "sgd2", "sgd1")}, made_up_profiles),
    "changes-with-order-do-not-cancel": ({"arm": "in context", "other": "in context"}, made_up_profiles),
    "another-model-depends-on-order-too": ({"arm": "loud"}, made_up_profiles),
    "descent-needs-more-demonstrations": (ZERO, made_up_answers),
    "the-accuracy-gap-is-partly-format": ({"names": ("restricted accuracy", "accuracy")}, made_up_answers),
    "token-overlap-stays-below-reading": (ZERO, made_up_answers),
    "overlap-cosine-stays-below-reading": (ZERO, made_up_answers),
    "matching-accuracy-is-not-matching-answers": (ZERO, made_up_answers),
    "training-a-part-does-not-help": (ZERO, made_up_answers),
    "more-demonstrations-do-not-close-the-gap": (ZERO, made_up_answers),
    "training-beats-no-training": ({"controls": ("another order", "in context")}, made_up_answers),
    "pretrained-weights-are-not-sparse": ({"change": pruned}, None),
    "reading-survives-drift": ({"seen": forgotten}, made_up_history),
    "one-demonstration-is-its-own-order": ({"cosine": unnormalised_cosine}, None),
}
# The models of the claims are not on every machine; these are bundled.
STORIES = TextSource("stories260K", "subj", "subj", 30)
SMALLER = {
    "one-demonstration-is-its-own-order": {"source": STORIES, "sets": 2, "items": 2, "shots": (1, 2)},
    "pretrained-weights-are-not-sparse": {"model": "prose1M"},
    **{name: {"epochs": (1, 2)} for name, (_, study) in STUDIED.items() if study is made_up_profiles},
}


def patches_of_a_shorter_context(model, tokens):
    """Changes of weights for the context without its first token."""
    return weight_patches(model, tokens[1:])


def patched_cases():
    """The claims on changes of weights, for real on a bundled model."""
    small = Patches("prose1M", "mr", contexts=2, size=6, queries=1)
    wrong = functools.partial(patched_answers, make=patches_of_a_shorter_context)
    return {
        "dherin2025.context-is-a-rank-one-patch": (small, {"answers": wrong}, None),
        "dherin2025.a-patch-serves-its-own-query": (small, {"used": "own"}, None),
    }


def made_up_labels(run):
    """Random labels serve as well as gold ones, wrong ones do not turn the answers round, neutral names hurt."""
    levels = {"gold": 0.85, "random": 0.84, "flipped": 0.75, "renamed": 0.6, "none": 0.8, "turned": 0.2, "better": 0.95}
    found = {name: about(level, 8, place=name) for name, level in levels.items()}
    return {**found, "chance": torch.full((8,), 0.5, dtype=torch.float64)}


def label_cases():
    """The claims on the labels of demonstrations."""
    wrong = {
        "min2022.random-labels-cost-little": {"other": "renamed"},
        "wei2023.small-models-do-not-follow-flipped-labels": {"used": "turned"},
        "wei2023.neutral-names-of-labels-hurt-small-models": {"used": "better"},
    }
    return {name: (claims()[name].quick, parts, made_up_labels) for name, parts in wrong.items()}


def made_up_pretrainings(run):
    """Under the prefix mask the loss falls further and accuracy rises further."""
    rise = torch.linspace(0, 1, 4, dtype=torch.float64)
    loss = {mask: about(6 - best * rise, 3, 4, place=f"{mask} loss") for mask, best in (("prefix", 2), ("causal", 1))}
    ends = (("prefix", 0.4), ("causal", 0.1))
    accuracy = {mask: about(0.5 + best * rise, 3, 4, place=f"{mask} accuracy") for mask, best in ends}
    return Histories((1, 2, 3, 4), loss, accuracy, 300)


def pretraining_cases():
    """The claims on pretraining under either mask."""
    swapped = {"ahead": "causal", "behind": "prefix"}
    names = ("ding2024.prefix-pretraining-lowers-the-loss", "ding2024.prefix-pretraining-helps-in-context")
    return {name: (claims()[name].quick, swapped, made_up_pretrainings) for name in names}


def made_up_changes(run):
    """Scaling adds to the similarity, an untrained network has more of it, and so has layer-causal descent."""
    levels = {SCALED: 0.19, NOISE: 0.01, PLAIN: 0.10, UNTRAINED: 0.15, CAUSAL: 0.17, "sign turned": -0.19}
    return {name: about(level, 6, place=name) for name, level in levels.items()}


def state_cases():
    """The claims on how alike states change."""
    wrong = {
        "dai2023.states-change-alike": {"used": "sign turned"},
        "deutch2024.scaling-inflates-simaou": {"above": NOISE},
        "deutch2024.untrained-networks-score-as-high": {"above": SCALED},
        "deutch2024.layer-causal-descent-is-nearer": {"above": NOISE},
    }
    found = {name: (claims()[name].quick, parts, made_up_changes) for name, parts in wrong.items()}
    # What the unscaled changes have in common: nothing.
    bias = {
        "deutch2024.scaling-biases-similarity": (ScaledChanges(200, 100, (0.1, 1.0)), {"bias": lambda _: 0.0}, None)
    }
    return found | bias


def cases():
    """For each claim a small setting, the wrong part, and the made-up findings."""
    known, masks = claims(), "ding2024.prefix-helps-language-models"
    swapped = {"ahead": TUNED["causal"].name, "behind": TUNED["prefix"].name}
    found = {masks: (known[masks].quick, swapped, fine_tunings_in_which_prefix_helps)}
    for name, (wrong, study) in STUDIED.items():
        claim = known[f"shen2024.{name}"]
        found[claim.id] = (replace(claim.quick, **SMALLER.get(name, {})), wrong, study)
    return found | patched_cases() | label_cases() | pretraining_cases() | state_cases() | number_cases()
