"""The population engine against roads that share no code with it: sampling, autograd, explicit loops."""

import math

import pytest
import torch
from tests.rounding import regression

from insitu.errors import InputError
from insitu.models import Architecture, AttentionNetwork, Prefix, SelfVisible
from insitu.prompt import Prompt
from insitu.seed import Seed
from insitu.tasks import Autoregression, Gaussian, LinearRegression
from insitu.theory.one_layer.population import Population
from insitu.theory.sequences.rotations import three_term_step

DENSE = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.5]], dtype=torch.float64)
POPULATION = Population(DENSE, length=6)


def sampled_loss(network, population, prompts, seed):
    """Half the squared error of the network on prompts as the paper draws them, with its standard error."""
    law = Gaussian(3, tuple(map(tuple, population.covariance.tolist())))
    episode = LinearRegression(law).sample(seed, prompts, population.length)
    with torch.no_grad():
        losses = (network.predict(episode.prompt) - episode.answers).square().flatten() / 2
    return losses.mean().item(), losses.std().item() / math.sqrt(prompts)


def layer(matrix, scalar):
    """The paper's layer: one linear attention whose query takes part in the sum, read out with a plus."""
    network = AttentionNetwork(Architecture(dim=3, mask=SelfVisible(Prefix()))).double()
    maps = network.layers[0].maps
    with torch.no_grad():
        network.readout[0, 3] = 1.0
        maps.score[0, :3, :3] = matrix
        maps.value[0, 3, 3] = scalar
    return network


@pytest.mark.parametrize("place", range(3))
def test_the_loss_is_that_of_the_network_on_samples(place):
    matrix = 0.5 * (Seed(1) / place).normal(3, 3)
    scalar = torch.tensor(0.7, dtype=torch.float64)
    value, error = sampled_loss(layer(matrix, scalar), POPULATION, 200_000, Seed(2) / place)
    assert POPULATION.loss(matrix, scalar).item() == pytest.approx(value, abs=4 * error)
    wrong = Population(DENSE, length=12).loss(matrix, scalar).item()
    assert abs(wrong - value) > 4 * error, "the sample must be able to tell N = 6 from 12"


def test_the_minimum_is_where_the_gradient_vanishes_and_nothing_near_is_lower():
    matrix, scalar = (t.clone().requires_grad_() for t in POPULATION.global_minimum())
    loss = POPULATION.loss(matrix, scalar)
    assert loss.item() == pytest.approx(POPULATION.minimum_loss(), rel=1e-12)
    for slope in torch.autograd.grad(loss, (matrix, scalar)):
        assert slope.abs().max() < 1e-12
    assert scalar.item() ** 2 == pytest.approx(matrix.square().sum().item(), rel=1e-12)
    for place in range(20):
        step = 0.3 * (Seed(0) / place).normal(10)
        moved = POPULATION.loss(matrix + step[:9].view(3, 3), scalar + step[9])
        assert moved > loss


def test_the_minimum_is_that_of_least_squares_on_samples():
    """A regression of w'x_q on the entries of x_q (x) S w finds the same matrix, with no formula in between."""
    law = Gaussian(3, tuple(map(tuple, DENSE.tolist())))
    episode = LinearRegression(law).sample(Seed(5), 200_000, 6)
    prompt = episode.prompt
    seen = (prompt.xs * prompt.ys).mean(1)
    features = (prompt.queries[:, 0, :, None] * seen[:, None, :]).flatten(1)
    found, error = regression(features, episode.answers[:, 0, 0])
    exact, wrong = (torch.linalg.inv(Population(DENSE, length).key_matrix).flatten() for length in (6, 9))
    assert ((found - exact).abs() < 5 * error).all()
    assert ((found - wrong).abs() > 5 * error).any(), "the sample must be able to tell N = 6 from 9"


def test_the_flow_is_steepest_descent_on_the_loss():
    matrix, scalar = POPULATION.balanced_start((Seed(3)).normal(3, 3), 0.4)
    times = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    flow = POPULATION.flow(matrix, scalar, times)
    steps = 3000
    for _ in range(steps):
        matrix, scalar = matrix.detach().requires_grad_(), scalar.detach().requires_grad_()
        slopes = torch.autograd.grad(POPULATION.loss(matrix, scalar), (matrix, scalar))
        matrix, scalar = (p - s / steps for p, s in zip((matrix, scalar), slopes, strict=True))
    torch.testing.assert_close(flow.matrices[-1], matrix.detach(), atol=1.5e-3, rtol=0)
    torch.testing.assert_close(flow.scalars[-1], scalar.detach(), atol=1.5e-3, rtol=0)
    assert flow.losses[0] > flow.losses[1] > flow.losses[2]
    assert flow.scalars[0] == 0.4


def test_any_start_is_allowed_and_conserves_its_own_imbalance():
    matrix, scalar = POPULATION.balanced_start((Seed(3)).normal(3, 3), 0.4)
    times = torch.linspace(0, 50, 20, dtype=torch.float64)
    flow = POPULATION.flow(matrix, 2 * scalar, times)
    balance = flow.scalars.square() - flow.matrices.square().sum((1, 2))
    torch.testing.assert_close(balance, torch.full_like(balance, 3 * 0.4**2), atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("covariance", "length", "message"),
    [
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), 4, "symmetric"),
        (torch.tensor([[1.0, 1.0], [1.0, 1.0]]), 4, "positive definite"),
        (torch.tensor([[1.0, 0.0], [0.0, -1.0]]), 4, "positive definite"),
        (torch.tensor([[1.0, 0.0], [0.0, float("nan")]]), 4, "finite"),
        (torch.eye(2), 0, "length must be a whole number of at least 1"),
    ],
)
def test_what_is_no_covariance_is_refused(covariance, length, message):
    with pytest.raises(InputError, match=message):
        Population(covariance.double(), length)


def test_a_start_that_cannot_move_is_refused():
    with pytest.raises(InputError, match="does not annihilate"):
        POPULATION.balanced_start(torch.zeros(3, 3, dtype=torch.float64), 0.1)


@pytest.mark.usefixtures("as_users_run")
def test_a_start_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"matrix .* dim = 3; got shape \(2, 2\)"):
        POPULATION.flow(torch.eye(2).double(), torch.tensor(1.0).double(), torch.zeros(1).double())


def test_one_dimension_and_one_example_work():
    population = Population(torch.ones(1, 1, dtype=torch.float64), length=1)
    # Gamma = 3: the least loss is (1 - 1/3) / 2.
    assert population.minimum_loss() == pytest.approx(1 / 3, rel=1e-12)


def test_three_terms_continue_rotations_and_nothing_else():
    episode = Autoregression(6).sample(Seed(0), batch=5, points=4)
    before, now = episode.prompt.xs[:, -1:], episode.prompt.queries
    torch.testing.assert_close(three_term_step(before, now), episode.answers, atol=1e-13, rtol=0)
    other = Autoregression(6, "haar").sample(Seed(0), batch=5, points=4)
    wrong = three_term_step(other.prompt.xs[:, -1:], other.prompt.queries)
    assert (wrong - other.answers).abs().max() > 0.1


def test_three_terms_need_pairs_and_an_angle():
    with pytest.raises(InputError, match="even; got 3"):
        three_term_step(torch.ones(3), torch.ones(3))
    with pytest.raises(InputError, match="angle is undefined"):
        three_term_step(torch.zeros(4), torch.ones(4))


def test_a_prompt_of_mirror_images_is_a_prompt():
    prompt = LinearRegression(Gaussian(3)).sample(Seed(0), 2, 4).prompt
    doubled = Prompt(*(torch.cat([t, s * t]) for t, s in ((prompt.xs, 1), (prompt.ys, -1), (prompt.queries, 1))))
    answers = layer(torch.eye(3).double(), torch.tensor(0.5).double()).predict(doubled)
    torch.testing.assert_close(answers[:2], -answers[2:])
