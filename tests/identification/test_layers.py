"""What layers hold, which weights answers imply, and which prompts tell learners apart."""

import pytest
import torch
from tests.examples import close

from insitu import InputError, Prompt, Seed
from insitu.identification.diagnostics import TELLS, Plan, diagnostic_prompts
from insitu.identification.implied_weights import fitted_weights, gradient_weights, linearity
from insitu.identification.layer_maps import iterate_map, untrained
from insitu.learners import GradientDescent, KernelSmoother, LeastSquares, Mean
from insitu.models import (
    Causal,
    Decoder,
    DecoderArchitecture,
    Transformer,
    TransformerArchitecture,
    gradient_descent,
    initialise_decoder,
    initialise_transformer,
)
from insitu.tasks import Gaussian, LinearRegression

PROMPT = LinearRegression(Gaussian(3), noise=0.3).sample(Seed(0), 40, 8, 5).prompt


def test_every_layer_of_a_construction_holds_its_own_iterate():
    network = gradient_descent(3, 4, 0.3)
    descent, newton, online = iterate_map(network, PROMPT, rate=0.3)
    assert descent.nearest()[1:] == [1, 2, 3, 4]
    assert descent.unexplained[1:].diagonal().max() < 1e-20
    # The embedding knows nothing of the examples, and no other algorithm has these iterates.
    assert descent.unexplained[0].min() > 0.9
    assert newton.unexplained.min() > 1e-3
    assert online.unexplained.min() > 1e-3
    assert online.iterates == (2, 4, 6, 8)


def test_a_wrong_rate_and_a_causal_mask_are_seen():
    wrong = iterate_map(gradient_descent(3, 4, 0.3), PROMPT, rate=0.1)[0].unexplained
    assert wrong[1, 0] < 1e-20 < 1e-6 < wrong[4, 3]
    causal = iterate_map(gradient_descent(3, 4, 0.3, mask=Causal()), PROMPT, rate=0.3)[0].unexplained
    assert causal[1, 0] < 1e-20 < 1e-4 < causal[4, 3]


@pytest.mark.parametrize("kind", ["layers", "transformer", "decoder"])
def test_the_control_of_random_weights_explains_little(kind):
    network = gradient_descent(3, 2, 0.3)
    if kind == "transformer":
        network = Transformer(TransformerArchitecture(dim=3, layers=2, width=16))
        initialise_transformer(network, Seed(1))
    if kind == "decoder":
        network = Decoder(DecoderArchitecture(dim=3, points=9, width=16, layers=2, heads=2))
        initialise_decoder(network, Seed(1))
    for control in untrained(network, Seed(0), copies=2):
        assert type(control) is type(network)
        found = iterate_map(control, PROMPT, rate=0.3)[0].unexplained
        assert found.shape == (3, 2)
        assert found.min() > 0.3
    sizes = [(a - b).abs().max() for a, b in zip(network.parameters(), control.parameters(), strict=True) if a.ndim > 1]
    assert all(size > 0 for size in sizes)


def test_a_read_out_needs_more_queries_than_numbers():
    few = Prompt(PROMPT.xs[:4], PROMPT.ys[:4], PROMPT.queries[:4])
    with pytest.raises(InputError, match="a read-out of 5 numbers needs more than 10 queries"):
        iterate_map(gradient_descent(3, 2, 0.3), few, rate=0.3)


def test_implied_weights_are_those_of_a_linear_learner_on_three_roads():
    learner = GradientDescent(steps=3, rate=0.2)
    weights = learner.weights(PROMPT.xs, PROMPT.ys)
    close(gradient_weights(learner, PROMPT), weights[:, None].expand(-1, 5, -1, -1))
    close(gradient_weights(gradient_descent(3, 3, 0.2), PROMPT)[:, 0], weights)
    close(fitted_weights(PROMPT, learner.predict(PROMPT)), weights)
    assert linearity(PROMPT, learner.predict(PROMPT)) < 1e-20
    smoother = KernelSmoother(bandwidth=0.5)
    assert linearity(PROMPT, smoother.predict(PROMPT)) > 0.01
    # One direction by a difference of answers.
    step = 1e-6 * torch.eye(3, dtype=torch.float64)[0]
    ahead = Prompt(PROMPT.xs, PROMPT.ys, PROMPT.queries + step)
    slope = (smoother.predict(ahead) - smoother.predict(PROMPT)) / 1e-6
    close(gradient_weights(smoother, PROMPT)[..., 0], slope, tolerance=1e-4)
    assert not gradient_weights(Mean(), PROMPT).any()
    with pytest.raises(InputError, match="as many queries"):
        fitted_weights(Prompt(PROMPT.xs, PROMPT.ys, PROMPT.queries[:, :2]), learner.predict(PROMPT)[:, :2])


PLANS = [Plan(4, count=16), Plan(3, (6, 2), 9, "classes", 3), Plan(4, count=16, kind="sequence"), Plan(1, (2,), 8)]


@pytest.mark.parametrize("plan", PLANS, ids=repr)
def test_diagnostic_prompts_come_from_the_seed_and_a_quarter_comes_twice(plan):
    sets, again = diagnostic_prompts(plan, Seed(3)), diagnostic_prompts(plan, Seed(3))
    assert [s.prompt.points for s in sets] == plan.lengths
    for found, same in zip(sets, again, strict=True):
        assert torch.equal(found.prompt.xs, same.prompt.xs)
        assert len(found.names) == found.prompt.batch
        for name in dict.fromkeys(found.names):
            assert name in TELLS
            rows = [i for i, n in enumerate(found.names) if n == name]
            assert len(rows) == plan.count
            different = {found.prompt.xs[i].numpy().tobytes() + found.prompt.ys[i].numpy().tobytes() for i in rows}
            # Two orders of a few examples can be the same.
            fewest = len(different) if name == "permuted order" else plan.count - plan.count // 4
            assert len(different) == fewest <= plan.count - plan.count // 4
    assert not torch.equal(sets[0].prompt.xs, diagnostic_prompts(plan, Seed(4))[0].prompt.xs)


def test_each_diagnostic_is_what_it_is_called():
    (found, *_) = diagnostic_prompts(Plan(6, count=64), Seed(0))

    def of(name):
        rows = torch.tensor([n == name for n in found.names])
        return Prompt(found.prompt.xs[rows], found.prompt.ys[rows], found.prompt.queries[rows])

    def missed(prompt):
        return (LeastSquares().predict(Prompt(prompt.xs, prompt.ys, prompt.xs)) - prompt.ys).square().mean().item()

    freedom = 1 - 6 / 24
    assert missed(of("plain")) < 1e-20
    assert missed(of("noisy labels")) == pytest.approx(0.25**2 * freedom, rel=0.15)
    assert missed(of("very noisy labels")) == pytest.approx(1.0 * freedom, rel=0.15)
    assert of("inputs scaled up").xs.square().mean().item() == pytest.approx(2.25, rel=0.05)
    assert of("inputs scaled down").xs.square().mean().item() == pytest.approx(0.25, rel=0.05)
    shape = of("skewed covariance").xs.flatten(0, 1).square().mean(0)
    assert shape.max() / shape.min() == pytest.approx(9.0, rel=0.3)
    permuted, half = of("permuted order"), 24
    close(permuted.xs[:half].sort(dim=1).values, permuted.xs[half:48].sort(dim=1).values)
    assert not torch.equal(permuted.xs[:half], permuted.xs[half:48])
    doubled = of("duplicated points")
    assert torch.equal(doubled.xs[:, :12], doubled.xs[:, 12:])
    outlier = of("one outlier").ys.abs().amax((1, 2))
    assert outlier.min() > 5
    spanned = of("queries outside the span")
    assert (torch.linalg.matrix_rank(spanned.xs) == 3).all()
    assert (torch.linalg.matrix_rank(torch.cat([spanned.xs, spanned.queries], dim=1)) == 6).all()


def test_a_plan_refuses_what_it_cannot_draw():
    with pytest.raises(InputError, match="as many outputs as dimensions"):
        Plan(4, kind="sequence", out=3)
    with pytest.raises(InputError, match="count"):
        Plan(4, count=3)
    with pytest.raises(InputError, match="out"):
        Plan(4, kind="classes")
