"""What every learner and every network keeps, and for each law a predictor that breaks it and is rejected."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from tests.examples import ATTENTION_NETWORKS, LEARNERS, NETWORKS, PREDICTORS, REGRESSION, close, name, prompt_for
from torch import Tensor, nn

from insitu import InputError, Predictor, Prompt
from insitu.kinds import kinds_below
from insitu.learners import (
    Learner,
    LeastSquares,
    Mean,
    NearestNeighbours,
    learner,
)
from insitu.models import Causal, Prefix

# The laws. Each takes a predictor and a prompt that fits it.


def keeps_the_prompts_of_a_batch_apart(predictor: Predictor, prompt: Prompt) -> None:
    alone = Prompt(prompt.xs[1:2], prompt.ys[1:2], prompt.queries[1:2])
    close(predictor.predict(prompt)[1:2], predictor.predict(alone))


def keeps_queries_apart(predictor: Predictor, prompt: Prompt) -> None:
    kept = predictor.predict(prompt)[:, :2]
    changed = torch.cat([prompt.queries[:, :2], 5 - 3 * prompt.queries[:, 2:], prompt.queries[:, :1]], dim=1)
    close(predictor.predict(Prompt(prompt.xs, prompt.ys, changed))[:, :2], kept)
    close(predictor.predict(Prompt(prompt.xs, prompt.ys, prompt.queries[:, :2])), kept)


def answers_queries_in_their_order(predictor: Predictor, prompt: Prompt) -> None:
    backwards = Prompt(prompt.xs, prompt.ys, prompt.queries.flip(1))
    close(predictor.predict(backwards), predictor.predict(prompt).flip(1))


def answers_in_the_shape_and_dtype_of_the_prompt(predictor: Predictor, prompt: Prompt) -> None:
    for dtype in (torch.float32, torch.float64):
        answers = predictor.predict(prompt.to(dtype))
        assert answers.dtype == dtype
        assert answers.shape == (prompt.batch, prompt.queries.shape[1], prompt.out)


def computes_single_precision_prompts_in_full(predictor: Predictor, prompt: Prompt) -> None:
    rounded = prompt.to(torch.float32)
    close(predictor.predict(rounded).double(), predictor.predict(rounded.to(torch.float64)), tolerance=1e-6)


def leaves_the_prompt_alone(predictor: Predictor, prompt: Prompt) -> None:
    mine = Prompt(prompt.xs.clone(), prompt.ys.clone(), prompt.queries.clone())
    first, second = (predictor.predict(mine) for _ in range(2))
    assert all(torch.equal(getattr(mine, part), getattr(prompt, part)) for part in ("xs", "ys", "queries"))
    assert torch.equal(first, second)


def does_not_mind_the_order_of_the_examples(predictor: Predictor, prompt: Prompt) -> None:
    order = torch.tensor([3, 1, 6, 0, 2, 5, 4])
    close(predictor.predict(prompt.reordered(order)), predictor.predict(prompt))


def sees_the_labels(predictor: Predictor, prompt: Prompt) -> None:
    changed = Prompt(prompt.xs, prompt.ys[:, :1].expand_as(prompt.ys), prompt.queries)
    assert not torch.allclose(predictor.predict(changed), predictor.predict(prompt))


def answers_each_prefix_as_if_it_were_all(predictor: Learner, prompt: Prompt) -> None:
    paths = predictor.predict_prefixes(prompt)
    assert paths.shape == (prompt.batch, prompt.points, prompt.queries.shape[1], prompt.out)
    for k in range(1, prompt.points + 1):
        close(paths[:, k - 1], predictor.predict(prompt.prefix(k)))


def answers_a_prefix_before_it_sees_the_rest(predictor: Learner, prompt: Prompt) -> None:
    later = torch.arange(prompt.points)[:, None] >= 4
    changed = Prompt(
        torch.where(later, 2.0, prompt.xs), torch.where(later, prompt.ys.flip(1), prompt.ys), prompt.queries
    )
    close(predictor.predict_prefixes(changed)[:, :4], predictor.predict_prefixes(prompt)[:, :4])


def answers_prefixes_in_the_dtype_of_the_prompt(predictor: Learner, prompt: Prompt) -> None:
    single = predictor.predict_prefixes(prompt.to(torch.float32))
    assert single.dtype == torch.float32
    rounded = prompt.to(torch.float32).to(torch.float64)
    close(single.double(), predictor.predict_prefixes(rounded), tolerance=1e-6)


def prints_as_the_call_that_made_it(predictor: Learner, prompt: Prompt) -> None:
    again = learner(repr(predictor))
    assert again == predictor
    assert hash(again) == hash(predictor)


def runs_on_the_accelerator(predictor: Predictor, prompt: Prompt) -> None:
    there = copy.deepcopy(predictor).cuda() if isinstance(predictor, nn.Module) else predictor
    answers = there.predict(prompt.to(torch.device("cuda")))
    assert answers.is_cuda
    close(answers.cpu(), predictor.predict(prompt))


# The saboteurs: each is wrong in one way.


@dataclass(frozen=True, repr=False)
class Rule(Learner):
    """A learner made of two functions."""

    whole: Callable[[Prompt], Tensor]
    prefixes: Callable[[Prompt], Tensor] = LeastSquares().predict_prefixes

    def predict(self, prompt):
        return self.whole(prompt)

    def predict_prefixes(self, prompt):
        return self.prefixes(prompt)


@dataclass(frozen=True, repr=False)
class Secretive(Learner):
    """Prints as a learner that it is not."""

    def predict(self, prompt):
        return Mean().predict(prompt)

    def predict_prefixes(self, prompt):
        return Mean().predict_prefixes(prompt)


Secretive.__name__ = "Mean"
EXACT = LeastSquares()


def spoilt_prompt(prompt: Prompt) -> Tensor:
    prompt.ys.mul_(2)
    return EXACT.predict(prompt)


SABOTEURS: dict[Callable, Predictor] = {
    keeps_the_prompts_of_a_batch_apart: Rule(lambda p: EXACT.predict(p) + p.ys.mean()),
    keeps_queries_apart: Rule(lambda p: EXACT.predict(p) + p.queries.mean()),
    answers_queries_in_their_order: Rule(lambda p: EXACT.predict(p)[:, p.queries[0].norm(dim=-1).argsort()]),
    answers_in_the_shape_and_dtype_of_the_prompt: Rule(lambda p: EXACT.predict(p).double()),
    computes_single_precision_prompts_in_full: Rule(
        lambda p: (
            (p.queries @ torch.linalg.solve(p.xs.mT @ p.xs, p.xs.mT @ p.ys)).round(decimals=3)
            if p.ys.dtype == torch.float32
            else EXACT.predict(p)
        )
    ),
    leaves_the_prompt_alone: Rule(spoilt_prompt),
    does_not_mind_the_order_of_the_examples: Rule(lambda p: EXACT.predict(p.prefix(6))),
    sees_the_labels: Rule(lambda p: EXACT.predict(Prompt(p.xs, torch.ones_like(p.ys), p.queries))),
    answers_each_prefix_as_if_it_were_all: Rule(EXACT.predict, lambda p: EXACT.predict_prefixes(p).roll(1, dims=1)),
    answers_a_prefix_before_it_sees_the_rest: Rule(
        EXACT.predict, lambda p: EXACT.predict_prefixes(p) - p.ys.mean(1)[:, None, None]
    ),
    answers_prefixes_in_the_dtype_of_the_prompt: Rule(
        EXACT.predict, lambda p: EXACT.predict_prefixes(p.to(torch.float64))
    ),
    prints_as_the_call_that_made_it: Secretive(),
}

LEARNERS_KEEP = [
    answers_each_prefix_as_if_it_were_all,
    answers_a_prefix_before_it_sees_the_rest,
    answers_prefixes_in_the_dtype_of_the_prompt,
    prints_as_the_call_that_made_it,
]
ALL_KEEP = [law for law in SABOTEURS if law not in LEARNERS_KEEP]


def exempt(law: Callable, predictor: Predictor) -> str | None:
    """Why a predictor does not keep a law; it must then be seen to break it."""
    if law is does_not_mind_the_order_of_the_examples:
        return predictor.ordered
    if law is sees_the_labels and name(predictor) == "Zero()":
        return "answers zero"
    return None


every_predictor = pytest.mark.parametrize("predictor", PREDICTORS, ids=name)
every_learner = pytest.mark.parametrize("predictor", LEARNERS, ids=name)


@every_predictor
@pytest.mark.parametrize("law", ALL_KEEP, ids=lambda law: law.__name__)
def test_every_predictor(law, predictor):
    if exempt(law, predictor):
        with pytest.raises(AssertionError):
            law(predictor, prompt_for(predictor))
    else:
        law(predictor, prompt_for(predictor))


@every_learner
@pytest.mark.parametrize("law", LEARNERS_KEEP, ids=lambda law: law.__name__)
def test_every_learner(law, predictor):
    law(predictor, prompt_for(predictor))


@pytest.mark.parametrize(("law", "wrong"), SABOTEURS.items(), ids=lambda part: getattr(part, "__name__", ""))
def test_the_law_rejects_its_saboteur(law, wrong):
    prompt = Prompt(REGRESSION.xs.clone(), REGRESSION.ys.clone(), REGRESSION.queries.clone())
    with pytest.raises(AssertionError):
        law(wrong, prompt)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@every_predictor
def test_every_predictor_on_the_accelerator(predictor):
    runs_on_the_accelerator(predictor, prompt_for(predictor))


@pytest.mark.parametrize("network", NETWORKS, ids=name)
def test_every_network_in_single_precision_is_near_itself_in_double(network):
    prompt = prompt_for(network)
    single = copy.deepcopy(network).float().predict(prompt.to(torch.float32))
    close(single, network.predict(prompt).float())


@pytest.mark.parametrize("network", NETWORKS, ids=name)
def test_every_network_answers_after_each_layer_and_last_as_it_predicts(network):
    prompt = prompt_for(network)
    path = network.predict_layers(prompt)
    assert len(path) == network.architecture.layers + 1
    assert torch.equal(path[-1], network.predict(prompt))
    assert not torch.allclose(path[0], path[-1])


@pytest.mark.parametrize("network", NETWORKS, ids=name)
def test_every_weight_of_every_network_has_a_part_in_the_answer(network):
    trained = copy.deepcopy(network)
    trained.predict(prompt_for(network)).square().sum().backward()
    assert {key for key, weight in trained.named_parameters() if not weight.grad.any()} == set()


def test_every_kind_of_learner_can_be_written():
    assert {type(learner(repr(example))) for example in LEARNERS} == set(kinds_below(Learner).values())


def test_nearest_neighbours_at_equal_distance_rank_in_prompt_order():
    xs = torch.tensor([[[1.0], [-1.0], [1.0]]])
    ys = torch.tensor([[[1.0], [2.0], [3.0]]])
    prompt = Prompt(xs, ys, torch.zeros(1, 1, 1))
    assert NearestNeighbours(1).predict(prompt).item() == 1
    assert NearestNeighbours(1).predict(prompt.reordered(torch.tensor([1, 2, 0]))).item() == 2
    assert NearestNeighbours(2).predict_prefixes(prompt).flatten().tolist() == [1, 1.5, 1.5]


@pytest.mark.parametrize("mask", [Prefix(2), Causal()], ids=repr)
def test_networks_refuse_prompts_of_another_width(mask):
    network = next(n for n in ATTENTION_NETWORKS if n.architecture.mask == mask)
    with pytest.raises(InputError, match="dim=3 and out=2; got a prompt with dim=3 and out=1"):
        network.predict(Prompt(REGRESSION.xs, REGRESSION.ys[..., :1], REGRESSION.queries))


ONES = torch.ones


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ((ONES(2, 5, 3), ONES(2, 5), ONES(2, 1, 3)), "three axes each"),
        ((ONES(2, 5, 3), ONES(2, 4, 1), ONES(2, 1, 3)), r"must agree .* xs \(2, 5, 3\), ys \(2, 4, 1\)"),
        ((ONES(2, 5, 3), ONES(2, 5, 1), ONES(2, 1, 4)), "must agree"),
        ((ONES(2, 5, 3), ONES(2, 5, 1), ONES(1, 1, 3)), "must agree"),
        ((ONES(2, 0, 3), ONES(2, 0, 1), ONES(2, 1, 3)), r"the axis context \(point\) is empty"),
        ((ONES(2, 5, 3), ONES(2, 5, 1), ONES(2, 0, 3)), "the axis query is empty"),
        ((ONES(2, 5, 3), ONES(2, 5, 1).double(), ONES(2, 1, 3)), "one floating dtype"),
        ((ONES(2, 5, 3).long(), ONES(2, 5, 1).long(), ONES(2, 1, 3).long()), "one floating dtype"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_prompts_refuse_parts_that_do_not_fit(parts, match):
    with pytest.raises(InputError, match=match):
        Prompt(*parts)
