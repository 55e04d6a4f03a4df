"""The loss of all blocks against samples of the network itself, and traps in it, certified twice."""

import math

import pytest
import torch
from scipy import optimize

from insitu.errors import InputError
from insitu.models import Architecture, AttentionNetwork, Prefix, SelfVisible
from insitu.seed import Seed
from insitu.tasks import Gaussian, LinearRegression
from insitu.theory.one_layer.all_blocks import Blocks, block_flow, block_gradient, block_hessian, block_loss, flat_loss
from insitu.theory.one_layer.population import Population
from insitu.theory.one_layer.spurious_minima import stationary_points

DENSE = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.5]], dtype=torch.float64)
POPULATION = Population(DENSE, length=6)


def random_blocks(place, scale=0.3, dim=3):
    return Blocks.unflatten(scale * (Seed(7) / place).normal(dim**2 + 2 * dim + 1), dim)


def sampled_loss(blocks, mask, prompts, seed):
    """Half the squared error of the paper's layer on samples, with its standard error."""
    network = AttentionNetwork(Architecture(dim=3, mask=mask)).double()
    maps = network.layers[0].maps
    with torch.no_grad():
        network.readout[0, 3] = 1.0
        maps.score[0, :3, :3], maps.score[0, 3, :3] = blocks.matrix, blocks.matching
        maps.value[0, 3, :3], maps.value[0, 3, 3] = blocks.reading, blocks.scalar
        episode = LinearRegression(Gaussian(3, tuple(map(tuple, DENSE.tolist())))).sample(seed, prompts, 6)
        losses = (network.predict(episode.prompt) - episode.answers).square().flatten() / 2
    return losses.mean().item(), losses.std().item() / math.sqrt(prompts)


@pytest.mark.parametrize("place", range(3))
def test_the_loss_of_all_blocks_is_that_of_the_network_on_samples(place):
    blocks = random_blocks(place, 0.3 + 0.2 * place)
    exact = block_loss(POPULATION, blocks).item()
    value, error = sampled_loss(blocks, SelfVisible(Prefix()), 200_000, Seed(2) / place)
    assert exact == pytest.approx(value, abs=4 * error)


def test_a_query_that_is_not_summed_has_another_loss():
    blocks = Blocks(DENSE, torch.ones(3).double(), torch.zeros(3).double(), torch.tensor(0.5).double())
    exact = block_loss(POPULATION, blocks).item()
    value, error = sampled_loss(blocks, SelfVisible(Prefix()), 100_000, Seed(3))
    wrong, spread = sampled_loss(blocks, Prefix(), 100_000, Seed(3))
    assert abs(exact - value) < 4 * error
    assert abs(exact - wrong) > 4 * spread


def test_without_mixing_blocks_it_is_the_loss_of_the_slice():
    blocks = random_blocks(0)
    zero = torch.zeros(3, dtype=torch.float64)
    plain = Blocks(blocks.matrix, zero, zero, blocks.scalar)
    expected = POPULATION.loss(blocks.matrix, blocks.scalar)
    torch.testing.assert_close(block_loss(POPULATION, plain), expected, atol=0, rtol=1e-12)
    gradient = block_gradient(POPULATION, plain)
    assert gradient.reading.abs().max() < 1e-15
    assert gradient.matching.abs().max() < 1e-15


def test_gradient_and_hessian_are_finite_differences():
    blocks = random_blocks(1)
    flat, loss = blocks.flatten(), flat_loss(POPULATION)
    slope, bend = block_gradient(POPULATION, blocks).flatten(), block_hessian(POPULATION, blocks)
    direction, step = Seed(4).normal(16), 1e-4
    ahead, here, back = loss(flat + step * direction), loss(flat), loss(flat - step * direction)
    assert (slope @ direction).item() == pytest.approx(((ahead - back) / (2 * step)).item(), rel=1e-6)
    second = (ahead - 2 * here + back) / step**2
    assert (direction @ bend @ direction).item() == pytest.approx(second.item(), rel=1e-4)


def test_no_mixing_block_lowers_the_least_loss():
    loss, slope = flat_loss(POPULATION), torch.func.grad(flat_loss(POPULATION))
    ends = []
    for place in range(6):
        start = random_blocks(place, 0.5).flatten().numpy()
        found = optimize.minimize(
            lambda x: loss(torch.from_numpy(x)).item(), start, jac=lambda x: slope(torch.from_numpy(x)).numpy()
        )
        ends.append(found.fun)
    assert min(ends) == pytest.approx(POPULATION.minimum_loss(), abs=1e-9)


def test_the_scale_symmetry_leaves_the_loss():
    blocks = random_blocks(2)
    scaled = Blocks(blocks.matrix / 3, 3 * blocks.reading, blocks.matching / 3, 3 * blocks.scalar)
    torch.testing.assert_close(block_loss(POPULATION, scaled), block_loss(POPULATION, blocks))
    torch.testing.assert_close(scaled.product(), blocks.product())


def test_the_flow_of_all_blocks_descends_and_conserves_its_balance():
    start = random_blocks(3)
    path = block_flow(POPULATION, start, hold=False, times=torch.linspace(0, 3, 21, dtype=torch.float64))
    losses = torch.stack([block_loss(POPULATION, at) for at in path])
    assert (losses.diff() <= 1e-12).all()
    balances = torch.stack([at.balance() for at in path])
    torch.testing.assert_close(balances, start.balance().expand(21), atol=1e-7, rtol=0)
    wrong = torch.stack([at.balance() + 2 * at.reading.square().sum() for at in path])
    assert (wrong - wrong[0]).abs().max() > 1e-3, "with the other sign of |a|^2 it is not conserved"


@pytest.mark.parametrize(
    ("spectrum", "length", "expected"),
    [((3.0, 2.0, 1.0), 5, 2.0625), ((3.0, 2.0, 1.0), 50, 1.0174), ((1.0, 1.0), 5, 0.6849)],
)
def test_minima_that_are_not_global_are_found_and_certified(spectrum, length, expected):
    population = Population(torch.diag(torch.tensor(spectrum, dtype=torch.float64)), length)
    points = stationary_points(population, Seed(0), starts=12)
    assert points[0].loss == pytest.approx(population.minimum_loss(), rel=1e-9)
    assert points[0].is_minimum
    assert not points[0].is_spurious
    traps = [point for point in points if point.is_spurious]
    assert [round(trap.loss, 4) for trap in traps] == [expected]
    assert traps[0].slope < 1e-9
    # One flat direction from the scale symmetry; the rotations of the identity's plane add one.
    assert traps[0].flat_directions == traps[0].symmetries == (2 if len(set(spectrum)) == 1 else 1)


def test_a_flow_returns_to_the_trap():
    """The second road: gradient flow from perturbed weights, with no Hessian."""
    population = Population(torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)), 5)
    trap = next(p for p in stationary_points(population, Seed(0), starts=12) if p.is_spurious)
    moved = Blocks.unflatten(trap.blocks.flatten() + 0.01 * Seed(1).normal(16), 3)
    assert block_loss(population, moved) > 2.0626
    end = block_flow(population, moved, torch.tensor([40.0], dtype=torch.float64))[-1]
    assert block_loss(population, end).item() == pytest.approx(2.0625, abs=1e-5)


def test_a_saddle_is_no_minimum():
    """Zero is stationary for every block but no minimum: starts that stay there must not be called traps."""
    zeros = Blocks.unflatten(torch.zeros(16, dtype=torch.float64), 3)
    assert block_gradient(POPULATION, zeros).flatten().abs().max() == 0
    assert torch.linalg.eigvalsh(block_hessian(POPULATION, zeros))[0] < -0.1


@pytest.mark.usefixtures("as_users_run")
def test_blocks_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"reading must be .* with dim = 3; got shape \(2,\)"):
        Blocks(DENSE, torch.zeros(2), torch.zeros(3), torch.tensor(1.0))
    with pytest.raises(InputError, match="matrix must be 3 x 3"):
        block_flow(POPULATION, random_blocks(0, dim=2), torch.ones(1))
    with pytest.raises(InputError, match="starts"):
        stationary_points(POPULATION, Seed(0), starts=0)
