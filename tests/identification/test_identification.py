"""What is named: pure learners and nothing else, on any kind of prompt, and what is refused."""

import functools
import json
from pathlib import Path

import confusion
import pytest
import torch
from tests.examples import close
from tests.few_families import few_families as few_families

from insitu import InputError, Prompt, Seed
from insitu.identification import Answered, fitting, identify
from insitu.identification.diagnostics import Plan, diagnostic_prompts
from insitu.identification.evidence import INSIDE, gather
from insitu.identification.fitting import FamilyProblem, Fit, searched
from insitu.identification.local_families import KernelFamily, SoftmaxFamily
from insitu.identification.ordered_families import RecentMeanFamily
from insitu.identification.scoring import predicted, scores
from insitu.identification.search import Search
from insitu.identification.spectral_families import DescentFamily, RidgeFamily
from insitu.learners import FinitePool, LinearLearner, LogisticRegression, learner
from insitu.models import (
    Architecture,
    AttentionNetwork,
    Decoder,
    DecoderArchitecture,
    Transformer,
    TransformerArchitecture,
    initialise,
    initialise_decoder,
    initialise_transformer,
)
from insitu.tasks import Gaussian, LinearRegression

ROOT = Path(__file__).parents[2]


# Shapes are checked in the tests of the parts and in the first test here: the others run twice as fast without.
quickly = pytest.mark.usefixtures("as_users_run")
SETS = diagnostic_prompts(Plan(dim=3, points=(2, 7), count=16), Seed(5))
MANY = diagnostic_prompts(Plan(dim=3, points=(7,), count=40), Seed(5))
DESCENT = "GradientDescent(steps=4, rate=0.2)"


def answers(*parts, noise=0.0, sets=SETS):
    """A weighted sum of learners, with noise of its own for every prompt."""
    given = []
    for i, asked in enumerate(sets):
        mixed = sum(weight * predicted(learner(text), asked.prompt) for weight, text in parts)
        given.append(Answered(asked.prompt, mixed + noise * (Seed(8) / i).normal(*mixed.shape), asked.names))
    return given


# Kinds that contain another one: at no penalty, after many steps, at an endless width.
LIMITS = {
    "LeastSquares": {"Ridge", "Newton", "RecursiveLeastSquares"},
    "Mean": {"KernelSmoother", "SoftmaxSmoother", "RecentMean"},
    # One level of noise, and forgetting nothing; no momentum, and no change of the inputs.
    "Ridge": {"NoiseMixture", "RecursiveLeastSquares"},
    "GradientDescent": {"GradientDescentPlus", "Momentum", "Nesterov"},
}


@quickly
@pytest.mark.parametrize("truth", confusion.PANEL)
def test_every_learner_is_named_with_its_numbers_and_no_other_kind_is(truth):
    found = confusion.recognised(truth)
    assert found.verdict == "indistinguishable"
    assert repr(found.best.learner) == repr(learner(truth))
    row = confusion.distances(found)
    own = type(learner(truth)).__name__
    allowed = {own, *LIMITS.get(own, ())}
    assert {kind for kind, distance in row.items() if distance < 1e-12} <= allowed
    page = (ROOT / "docs" / "identify.md").read_text()
    (line,) = (line for line in page.splitlines() if line.startswith(f"| `{truth}` |"))
    kinds = next(line for line in page.splitlines() if line.startswith("| answers of |")).split(" | ")[1:]
    printed = dict(zip((kind.strip(" |") for kind in kinds), line.split(" | ")[1:], strict=True))
    assert {kind for kind, entry in printed.items() if "**0**" in entry} <= allowed
    for kind, entry in printed.items():
        number = entry.strip(" *|")
        if number not in ("0", "> 100", "–"):
            assert float(number) == pytest.approx(row[kind], rel=0.06)


MIXTURES = [
    [(0.5, "LeastSquares()"), (0.5, "Ridge(penalty=5.0)")],
    [(0.9, "GradientDescent(steps=8, rate=0.2)"), (0.1, "KernelSmoother(bandwidth=1.0)")],
    [(0.5, "GradientDescent(steps=3, rate=0.1)"), (0.5, "GradientDescent(steps=12, rate=0.1)")],
    [(0.8, "Kaczmarz(passes=1)"), (0.2, "LeastSquares()")],
]


@quickly
@pytest.mark.parametrize(("parts", "noise"), [(MIXTURES[0], 0.0), (MIXTURES[3], 0.0), (MIXTURES[3], 0.05)])
def test_a_mixture_is_named_with_its_parts_and_weights(parts, noise):
    found = identify(answers(*parts, noise=noise, sets=MANY if noise else SETS))
    assert found.verdict == "mixture"
    told = {type(part.learner).__name__: part.weight for part in found.mixture.parts}
    for weight, text in parts:
        kind = type(learner(text)).__name__
        # With noise a learner of which it is the limit is as good.
        interval = next(told[name] for name in (kind, *sorted(LIMITS.get(kind, ()))) if name in told)
        assert interval.value == pytest.approx(weight, abs=0.05 if noise else 1e-10)
        assert interval.low <= weight <= interval.high
    numbers = [number for part in found.mixture.parts for number in part.parameters]
    assert all(f"    {number}\n" in str(found) for number in numbers)
    json.dumps(found.as_json(), allow_nan=False)


@quickly
def test_a_switch_from_prompt_to_prompt_is_no_average():
    one, other = learner("Kaczmarz(passes=1)"), learner("Ridge(penalty=2.0)")
    given = []
    for asked in SETS:
        first = (asked.prompt.ys[:, :1] > 0).expand(-1, asked.prompt.queries.shape[1], -1)
        pair = [predicted(each, asked.prompt) for each in (one, other)]
        given.append(Answered(asked.prompt, torch.where(first, *pair), asked.names))
    found = identify(given)
    assert (found.verdict, found.mixture.way) == ("mixture", "by prompt")
    assert found.mixture.switches
    assert {part.learner for part in found.mixture.parts} == {one, other}


@quickly
@pytest.mark.parametrize(
    ("change", "factor", "offset", "word"),
    [(lambda a: -a, -1.0, 0.0, "minus"), (lambda a: 2 * a + 0.7, 2.0, 0.7, "an offset of 0.7")],
)
def test_a_factor_and_an_offset_are_said(change, factor, offset, word, request):
    if not offset:
        request.getfixturevalue("few_families")
    found = identify([Answered(a.prompt, change(a.answers), a.names) for a in answers((1.0, "Ridge(penalty=0.5)"))])
    told = found.as_json()["best"]
    assert (found.verdict, told["learner"]) == ("closest", "Ridge(penalty=0.5)")
    assert told["factor"] == pytest.approx(factor)
    assert told["offset"][0] == pytest.approx(offset, abs=1e-6)
    assert word in found.reason


@quickly
@pytest.mark.parametrize(
    ("change", "word", "every"),
    [
        (lambda a: a.flip(0), "rows are in another order", False),
        # Copies of a prompt are torn apart, which looks like noise. Here every family is fitted.
        (lambda a: a[(Seed(4) / "rows").permutation(len(a))], "rows are in another order", True),
        (lambda a: a.flip(1), "other queries", False),
    ],
)
def test_answers_in_another_order_are_put_in_order(change, word, every, request):
    if not every:
        request.getfixturevalue("few_families")
    found = identify([Answered(a.prompt, change(a.answers), a.names) for a in answers((1.0, "Ridge(penalty=0.5)"))])
    assert (found.verdict, repr(found.best.learner)) == ("closest", "Ridge(penalty=0.5)")
    assert any(word in remark for remark in found.remarks)


@quickly
def test_half_precision_is_no_departure_and_is_said():
    halves = [a.answers.half().float() for a in answers((1.0, "Ridge(penalty=0.25)"))]
    found = identify([Answered(a.prompt, h, a.names) for a, h in zip(SETS, halves, strict=True)])
    assert (found.verdict, type(found.best.learner).__name__) == ("indistinguishable", "Ridge")
    assert any("half precision" in remark for remark in found.remarks)


@quickly
def test_answers_that_are_noise_are_said_to_be():
    found = identify([Answered(a.prompt, Seed(3).normal(*a.answers.shape), a.names) for a in answers((1.0, DESCENT))])
    assert found.verdict == "none"
    assert "The answers are noise" in found.reason
    assert found.noise > 0.9


@quickly
def test_ridge_by_normal_equations_is_ridge_at_any_penalty():
    """Another road to the same answers, whose rounding is larger than that of the stored numbers."""
    given = []
    for asked in SETS:
        p = asked.prompt
        weights = torch.linalg.inv(p.xs.mT @ p.xs + 1e-3 * torch.eye(3).double()) @ p.xs.mT @ p.ys
        given.append(Answered(p, p.queries @ weights, asked.names))
    found = identify(given)
    assert (found.verdict, repr(found.best.learner)) == ("indistinguishable", "Ridge(penalty=0.001)")


@quickly
def test_what_noise_hides_is_not_called_indistinguishable():
    """A tenth of another learner: with few noisy prompts it may stay unseen, but not be ruled out by the verdict."""
    sets = diagnostic_prompts(Plan(dim=3, count=24), Seed(0))
    parts = [(0.9, "GradientDescent(steps=3, rate=0.3)"), (0.1, "CausalDescent(steps=6, rate=0.3)")]
    assert identify(answers(*parts, noise=0.1, sets=sets)).verdict != "indistinguishable"


@quickly
@pytest.mark.usefixtures("few_families")
def test_scores_that_are_kept_are_those_of_a_fresh_scoring(monkeypatch):
    search = Search(gather(SOME), Seed(0))
    search.try_families()
    first = search.score()
    search.add(Fit(learner("Kaczmarz()"), 0, 1.0))
    # Its answers change, and its place does not.
    search.fits[2], search.answers[2] = search.fits[3], search.answers[3]
    kept = search.score()
    assert [one is other for one, other in zip(first, kept, strict=False)] == [i != 2 for i in range(len(first))]
    rows = [(fit.learner, fit.size, answers) for fit, answers in zip(search.fits, search.answers, strict=True)]
    for one, other in zip(kept, scores(rows, search.held, search.noise, search.seed / "bootstrap"), strict=True):
        assert (one.learner, one.size) == (other.learner, other.size)
        assert (one.distance, one.low, one.high) == pytest.approx((other.distance, other.low, other.high), rel=1e-9)
    monkeypatch.setattr("insitu.identification.search.scores", None)
    assert all(one is other for one, other in zip(kept, search.score(), strict=True))


@quickly
def test_a_family_far_from_the_answers_is_not_searched_and_has_its_best_numbers_all_the_same(monkeypatch):
    families = [SoftmaxFamily(), DescentFamily(single=True), RidgeFamily(), KernelFamily(), RecentMeanFamily()]
    given = gather(answers((1.0, "Ridge(penalty=0.37)")))
    seen = []
    monkeypatch.setattr(fitting, "searched", lambda rough: seen.append(type(rough.family)) or searched(rough))
    search = Search(given, Seed(0), families=families)
    search.try_families()
    assert seen == [RidgeFamily]
    for family, fit in zip(families, search.fits, strict=True):
        whole = fitting.find(FamilyProblem(family, search.few), search.objective)
        assert fit.loss == pytest.approx(whole.loss, rel=1e-4)


@quickly
@pytest.mark.usefixtures("few_families")
def test_the_nearest_is_the_named_one_where_something_departs():
    found = identify([Answered(a.prompt, a.answers + a.prompt.queries[..., :1].square(), a.names) for a in SOME])
    assert found.verdict in ("closest", "none")
    assert found.best.score.distance == min(c.score.distance for c in found.ranking)


SOME = answers((1.0, "Ridge(penalty=0.5)"))


@quickly
def test_in_distribution_comes_first():
    """A model that is ridge where it was trained, and least squares elsewhere."""
    plan = Plan(dim=3, points=(5,), count=16, task=LinearRegression(Gaussian(3), noise=0.5), trained=(5,))
    (asked,) = diagnostic_prompts(plan, Seed(1))
    inside = torch.tensor([name == INSIDE for name in asked.names])[:, None, None]
    both = [predicted(learner(text), asked.prompt) for text in ("Ridge(penalty=0.5)", "LeastSquares()")]
    found = identify([Answered(asked.prompt, torch.where(inside, *both), asked.names)])
    assert (found.verdict, repr(found.best.learner)) == ("indistinguishable", "Ridge(penalty=0.5)")
    assert (found.shift.verdict, repr(found.shift.best.learner)) == ("indistinguishable", "LeastSquares()")
    assert found.reason.startswith("In distribution")
    assert found.as_json()["shift"]["verdict"] == "indistinguishable"


@quickly
def test_an_identification_is_short_in_a_shell_and_whole_on_a_page(tmp_path):
    found = of_descent()
    assert len(repr(found)) < 150
    assert "GradientDescent(steps=4, rate=0.2)" in str(found)
    assert found._repr_html_().startswith("<div>")
    page = found.save_page(tmp_path / "page.html")
    assert page.read_text().index("What it shows") < page.read_text().index("Ranking")


@quickly
@pytest.mark.parametrize("truth", ["Ridge(penalty=0.5)", "Kaczmarz(passes=1)"])
def test_noise_of_the_answers_is_seen_as_noise(truth):
    found = identify(answers((1.0, truth), noise=0.05, sets=MANY))
    assert found.verdict == "indistinguishable"
    assert type(found.best.learner) is type(learner(truth))
    assert found.noise > 1e-4
    for number in found.best.parameters:
        assert number.low <= getattr(learner(truth), number.name) <= number.high


@quickly
@pytest.mark.usefixtures("few_families")
def test_noise_without_repeated_prompts_is_unexplained_and_said_to_be():
    prompt = LinearRegression(Gaussian(3)).sample(Seed(1), 64, 9, 4).prompt
    noisy = predicted(learner("Ridge(penalty=0.5)"), prompt) + 0.1 * Seed(2).normal(64, 4, 1)
    found = identify([Answered(prompt, noisy)])
    assert found.verdict == "closest"
    assert any("no prompt is repeated" in remark for remark in found.remarks)
    assert any("every context determines all weights" in remark for remark in found.remarks)


def test_answers_in_single_precision_are_no_departure():
    found = identify([Answered(a.prompt, a.answers.float(), a.names) for a in answers((1.0, "Ridge(penalty=0.25)"))])
    assert (found.verdict, found.best.learner) == ("indistinguishable", learner("Ridge(penalty=0.25)"))


@quickly
def test_what_ignores_the_examples_or_is_no_learner_is_none():
    found = identify([Answered(a.prompt, a.prompt.queries[..., :1].sin(), a.names) for a in SETS])
    assert found.verdict == "none"
    assert found.reason.startswith("None of these learners")


def random_networks():
    layers = AttentionNetwork(Architecture(dim=3, layers=4))
    initialise(layers, Seed(0), std=0.3)
    blocks = Transformer(TransformerArchitecture(dim=3, layers=2))
    initialise_transformer(blocks, Seed(0))
    decoder = Decoder(DecoderArchitecture(dim=3, points=13, width=16, layers=2, heads=2))
    initialise_decoder(decoder, Seed(0))
    return [layers, blocks, decoder]


@quickly
@pytest.mark.parametrize("network", random_networks(), ids=lambda network: type(network).__name__)
def test_a_random_network_is_no_learner(network):
    found = identify([Answered(a.prompt, predicted(network, a.prompt).float(), a.names) for a in SETS])
    assert found.verdict != "indistinguishable"
    assert found.best.score.low > 0.1


@quickly
def test_sequences_and_classes_are_served():
    sequences = diagnostic_prompts(Plan(dim=4, count=8, kind="sequence", points=(3, 8)), Seed(2))
    found = identify(answers((1.0, DESCENT), sets=sequences))
    assert (found.kind, found.best.learner) == ("sequence", learner(DESCENT))
    classes = diagnostic_prompts(Plan(dim=2, count=8, kind="classes", out=3, points=(8,)), Seed(2))
    found = identify([Answered(a.prompt, LogisticRegression(0.3).predict(a.prompt), a.names) for a in classes])
    assert (found.kind, found.verdict) == ("classes", "indistinguishable")
    assert found.best.learner.penalty == pytest.approx(0.3, rel=1e-3)


@quickly
def test_a_further_candidate_is_named_where_it_is_the_one():
    pool = FinitePool(weights_of=((1.0, 0.0, 0.0), (0.0, 1.0, -1.0)), noise=0.5)
    found = identify([Answered(a.prompt, pool.predict(a.prompt), a.names) for a in SETS], candidates=[pool])
    assert (found.verdict, found.best.learner) == ("indistinguishable", pool)
    assert not any(c.score.within for c in found.ranking[1:])


def test_copies_never_stand_on_both_sides():
    for block in gather(answers((1.0, "Mean()"))).blocks:
        sides = {}
        for copy, side in zip(block.copies.tolist(), block.fitting.tolist(), strict=True):
            assert sides.setdefault(copy, side) == side
        assert 0.4 < block.fitting.double().mean() < 0.6


def test_the_distances_are_those_that_are_said():
    """Distances of answers and of implied weights by hand, from the scored half."""
    given, found, truth = answers((1.0, DESCENT)), of_descent(), learner(DESCENT)
    candidate = next(c for c in found.ranking[1:] if isinstance(c.learner, LinearLearner))
    rival, shares = candidate.learner, []
    for asked, block in zip(given, gather(given).blocks, strict=True):
        xs, ys = asked.prompt.xs, asked.prompt.ys
        # The weights that linear learners hold are those that their answers imply.
        held, theirs = truth.weights(xs, ys), rival.weights(xs, ys)
        for name in dict.fromkeys(asked.names):
            rows = ~block.fitting & torch.tensor([n == name for n in asked.names])
            # Copies of a prompt count once.
            first = torch.tensor([c not in block.copies[:i][rows[:i]].tolist() for i, c in enumerate(block.copies)])
            kept = rows & first
            pairs = ((asked.answers, predicted(rival, asked.prompt)), (held, theirs))
            shares.append([((a - b)[kept].square().mean() / a[kept].square().mean()).item() for a, b in pairs])
    answered, implied = torch.tensor(shares).double().mean(0).tolist()
    assert candidate.score.distance == pytest.approx(answered, rel=1e-6)
    assert candidate.score.weights[0] == pytest.approx(implied, rel=1e-6)
    assert candidate.score.low <= candidate.score.distance <= candidate.score.high
    assert candidate.score.weights[1] <= candidate.score.weights[0] <= candidate.score.weights[2]


@quickly
def test_the_answer_is_the_same_for_prompts_in_another_order_and_in_json():
    given, found = answers((1.0, DESCENT)), of_descent()
    told = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert told["verdict"] == "indistinguishable"
    assert told["best"]["learner"] == "GradientDescent(steps=4, rate=0.2)"
    assert {"learner", "distance", "low", "high"} <= set(told["ranking"][0])
    assert {"name", "distance"} <= set(told["diagnostics"][0])
    turned = [Answered(flipped(a.prompt), a.answers.flip(0), a.names[::-1]) for a in given]
    assert identify(turned, seed=Seed(1)).best.learner == found.best.learner


@quickly
def test_a_kind_that_is_the_named_learner_at_one_value_of_its_numbers_is_no_other_one():
    """Momentum 0 is descent; a penalty in proportion to the examples is another learner at other lengths."""
    assert "omentum" not in of_descent().reason
    assert not of_descent().agreeing
    prompt = MANY[0].prompt
    found = identify([Answered(prompt, predicted(learner("Ridge(penalty=0.7)"), prompt))])
    assert [repr(c.learner) for c in found.agreeing] == ["Ridge(penalty=0.1, per_example=True)"]
    assert "no more is explained by Ridge(penalty=0.1, per_example=True)" in found.reason


@functools.cache
def of_descent():
    return identify(answers((1.0, DESCENT)))


def flipped(prompt: Prompt) -> Prompt:
    return Prompt(prompt.xs.flip(0), prompt.ys.flip(0), prompt.queries.flip(0))


PROMPT = LinearRegression(Gaussian(2)).sample(Seed(0), 20, 5, 3).prompt
GOOD = learner("Ridge(penalty=0.5)").predict(PROMPT)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Answered(PROMPT, GOOD[:, :2]), "these prompts ask for .20, 3, 1."),
        (
            lambda: Answered(PROMPT, GOOD.index_fill(0, torch.tensor([4]), torch.nan)),
            "3 numbers that are NaN .*4, 0, 0",
        ),
        (lambda: Answered(PROMPT, GOOD, ("plain",)), "1 diagnostics are named for 20 prompts"),
        (lambda: identify([Answered(part(8), GOOD[:8])]), "8 prompts are too few .*At least 16 prompts are needed"),
        (lambda: identify([Answered(PROMPT, torch.ones_like(GOOD))]), "all answers are the same number, 1"),
        (lambda: identify([Answered(PROMPT, torch.zeros_like(GOOD))]), "Zero.. answers so"),
        # Ridge at a penalty of 1e65.
        (lambda: identify([Answered(PROMPT, 1e-60 * GOOD.double())]), "same number, 0, up to .e-60.*Zero.. answers so"),
        (lambda: identify([Answered(PROMPT, GOOD, ("rare",) * 2 + ("usual",) * 18)]), "'rare' has 2 prompts"),
    ],
)
def test_what_cannot_be_compared_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def part(count: int) -> Prompt:
    return Prompt(PROMPT.xs[:count], PROMPT.ys[:count], PROMPT.queries[:count])


@quickly
def test_answers_far_from_every_candidate_do_not_break_the_search():
    prompt = LinearRegression(Gaussian(2)).sample(Seed(0), 20, 5, 3).prompt
    found = identify([Answered(prompt, 1e100 * Seed(3).normal(20, 3, 1))])
    assert found.verdict == "none"
    json.dumps(found.as_json(), allow_nan=False)
    one = LinearRegression(Gaussian(1)).sample(Seed(0), 20, 1, 1).prompt
    found = identify([Answered(one, learner("LeastSquares()").predict(one))])
    close(found.best.learner.predict(one), learner("LeastSquares()").predict(one), tolerance=1e-6)
