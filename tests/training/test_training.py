"""The loop and the ensemble: exact resume, copies that do not touch, early warning."""

import contextlib
import io

import pytest
import torch
from tests.rounding import rounding
from torch import nn

from insitu.budget import OutOfTimeError, limited
from insitu.errors import InputError
from insitu.models import Architecture, AttentionNetwork, Causal, initialise
from insitu.seed import Seed
from insitu.storage import write_with_digest
from insitu.tasks import Gaussian, LinearRegression
from insitu.training import DivergenceError, Ensemble, Growth, Progress, Recipe, train, train_resumably

TASK = LinearRegression(Gaussian(3))
# Twenty steps of ten sums over 48 tokens each, and a factor 1000 for what descent amplifies.
CLOSE = rounding(terms=48, steps=200, size=1000)


def networks(count):
    made = [AttentionNetwork(Architecture(dim=3, layers=2, heads=2, mask=Causal(), shared=False)) for _ in range(count)]
    for copy, network in enumerate(made):
        initialise(network, Seed(1) / copy, std=0.3)
    return [network.double() for network in made]


def objective(ensemble):
    def losses(step):
        episode = TASK.sample(Seed(2) / step, batch=8, points=6)
        tokens = ensemble.networks[0].encode(episode.prompt)
        copies = len(ensemble.networks)
        states = ensemble(tokens.expand(copies, *tokens.shape), context=6)
        read = states[:, :, -1:] @ ensemble.weights["readout"].mT[:, None]
        return (read - episode.answers).square().mean((1, 2, 3))

    return losses


def run(ensemble, recipe, progress=None):
    return list(train(ensemble.trained, objective(ensemble), recipe, progress))


def test_sixty_steps_are_thirty_saved_loaded_and_thirty_more():
    recipe = Recipe(steps=60, rate=0.01, warmup=0.1, decay="cosine", clip=1.0)
    whole, halves = Ensemble(networks(2)), Ensemble(networks(2))
    expected = run(whole, recipe)
    progress = Progress()
    first = []
    for step in train(halves.trained, objective(halves), recipe, progress):
        first.append(step)
        if step.index == 29:
            break
    disk = io.BytesIO()
    weights = {name: weight.detach() for name, weight in halves.weights.items()}
    torch.save({"weights": weights, "done": progress.done, "optimiser": progress.optimiser}, disk)
    disk.seek(0)
    stored = torch.load(disk, weights_only=True)
    again = Ensemble(networks(2))
    for name, weight in again.weights.items():
        weight.data.copy_(stored["weights"][name])
    second = run(again, recipe, Progress(stored["done"], stored["optimiser"]))
    assert first + second == expected
    for name, weight in whole.weights.items():
        assert torch.equal(weight, again.weights[name])


def test_a_copy_trains_as_if_it_were_alone():
    recipe = Recipe(steps=20, rate=0.01, clip=0.5)
    together = Ensemble(networks(3))
    steps = run(together, recipe)
    alone = Ensemble(networks(3)[1:2])
    for one, all_of_them in zip(run(alone, recipe), steps, strict=True):
        assert one.losses[0] == pytest.approx(all_of_them.losses[1], abs=CLOSE)
    for name, weight in alone.weights.items():
        torch.testing.assert_close(weight[0], together.weights[name][1], rtol=0, atol=CLOSE)
    assert not torch.equal(together.weights["readout"][0], together.weights["readout"][1])


def test_an_ensemble_is_its_networks():
    made = networks(3)
    ensemble = Ensemble(made)
    prompt = TASK.sample(Seed(0), batch=4, points=5).prompt
    tokens = made[0].encode(prompt)
    states = ensemble(tokens.expand(3, *tokens.shape), context=5)
    for copy, network in enumerate(networks(3)):
        *_, last = network.states(prompt)
        torch.testing.assert_close(states[copy], last, rtol=0, atol=CLOSE)
    with torch.no_grad():
        ensemble.weights["readout"].zero_()
    assert all(not network.readout.any() for network in ensemble.unstack())


def test_the_matrix_of_an_ensemble_holds_every_trained_weight_once():
    made = networks(3)
    ensemble = Ensemble(made, frozen=["readout"])
    assert ensemble.matrix.shape == (3, sum(p.numel() for n, p in made[0].named_parameters() if n != "readout"))
    for copy, network in enumerate(networks(3)):
        for name, weight in network.named_parameters():
            assert torch.equal(ensemble.weights[name][copy], weight)
    ensemble.matrix.data += torch.tensor([[0.0], [1.0], [2.0]])
    for copy, (network, before) in enumerate(zip(ensemble.unstack(), networks(3), strict=True)):
        for (name, now), then in zip(network.named_parameters(), before.parameters(), strict=True):
            assert torch.equal(now, then if name == "readout" else then + copy)


def test_frozen_weights_stay():
    ensemble = Ensemble(networks(1), frozen=["readout"])
    before = ensemble.weights["readout"].clone()
    run(ensemble, Recipe(steps=3, rate=0.1))
    assert torch.equal(ensemble.weights["readout"], before)
    with pytest.raises(InputError, match="no weight is called 'reading'"):
        Ensemble(networks(1), frozen=["reading"])


def test_divergence_is_told_at_once_with_what_to_lower():
    weight = torch.ones(2, requires_grad=True)
    explode = torch.tensor([1.0, 100.0])
    with pytest.raises(DivergenceError, match=r"step 4: the loss of copy 1 is 1e\+08.*Lower the rate 0\.5"):
        list(train([weight], lambda step: weight.detach() * explode**step + 0 * weight, Recipe(9, 0.5)))
    with pytest.raises(DivergenceError, match="step 0: the loss of copy 0 is nan"):
        list(train([weight], lambda step: weight * torch.nan, Recipe(9, 0.5)))


def test_clipping_binds_each_copy_by_itself():
    weight = torch.tensor([[3.0, 4.0], [0.03, 0.04]], dtype=torch.float64, requires_grad=True)
    steps = []
    for _ in train([weight], lambda step: weight.square().sum(1) / 2, Recipe(1, 1e-9, clip=0.5)):
        steps.append(weight.grad.clone())
    torch.testing.assert_close(steps[0], torch.tensor([[0.3, 0.4], [0.03, 0.04]], dtype=torch.float64))


def test_the_loop_is_adam():
    """Kingma and Ba (2015), algorithm 1, written out in double precision."""
    target = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    ours = target.clone().requires_grad_()
    list(train([ours], lambda step: (ours - step).square().sum(1), Recipe(10, 0.1)))
    weight, mean, square = target.clone(), torch.zeros(1, 2), torch.zeros(1, 2)
    for step in range(10):
        slope = 2 * (weight - step)
        mean = 0.9 * mean + 0.1 * slope
        square = 0.999 * square + 0.001 * slope**2
        unbiased = mean / (1 - 0.9 ** (step + 1)), square / (1 - 0.999 ** (step + 1))
        weight = weight - 0.1 * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
    torch.testing.assert_close(ours.detach(), weight, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"rate": -1.0}, "rate must be a finite number and be positive"),
        ({"clip": 0.0}, "clip"),
        ({"warmup": -0.1}, "warmup must be a finite number and not be negative"),
        ({"warmup": 100}, r"warmup is a share and at most 1, such as 0\.1 for the first tenth.*got 100"),
        ({"betas": 0.9}, r"betas must be two numbers, such as \(0\.9, 0\.999\); got 0\.9"),
        ({"betas": (0.9,)}, "betas must be two numbers"),
        ({"betas": (0.9, 1.0)}, "betas must be below 1"),
        ({"betas": (0.9, 5)}, "betas is a share and at most 1"),
        ({"betas": (0.9, "x")}, "betas must be a finite number"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_bad_recipes_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Recipe(**({"steps": 5, "rate": 0.1} | changes))


def test_an_empty_ensemble_is_refused():
    with pytest.raises(InputError, match="no network"):
        Ensemble(list[nn.Module]())


def test_an_interrupted_training_goes_on_to_the_same_last_bit(tmp_path):
    recipe = Recipe(steps=40, rate=0.01, clip=1.0)
    whole, halves = Ensemble(networks(2)), Ensemble(networks(2))
    expected = list(train_resumably(whole, objective(whole), recipe, None))
    first = []
    for step in train_resumably(halves, objective(halves), recipe, tmp_path, seconds=0.0):
        first.append(step)
        if step.index == 24:
            break
    again = Ensemble(networks(2))
    second = list(train_resumably(again, objective(again), recipe, tmp_path))
    assert [step.index for step in second] == list(range(25, 40))
    assert first + second == expected
    for name, weight in whole.weights.items():
        assert torch.equal(weight, again.weights[name])
    finished = Ensemble(networks(2))
    assert list(train_resumably(finished, objective(finished), recipe, tmp_path)) == []
    assert torch.equal(finished.weights["readout"], whole.weights["readout"])


@pytest.mark.parametrize(
    ("copies", "rate", "match"),
    [
        (3, 0.01, "another training, whose copies was 2 and not 3"),
        (2, 0.02, "whose recipe was Recipe.*Remove the file"),
    ],
)
def test_the_state_of_another_training_is_refused(copies, rate, match, tmp_path):
    ensemble = Ensemble(networks(2))
    list(train_resumably(ensemble, objective(ensemble), Recipe(steps=2, rate=0.01), tmp_path))
    other = Ensemble(networks(copies))
    with pytest.raises(InputError, match=match):
        list(train_resumably(other, objective(other), Recipe(steps=2, rate=rate), tmp_path))


def test_every_damage_to_a_state_is_noticed(tmp_path):
    recipe, ensemble = Recipe(steps=2, rate=0.01), Ensemble(networks(2))
    list(train_resumably(ensemble, objective(ensemble), recipe, tmp_path))
    state = tmp_path / "training.pt"
    whole = state.read_bytes()
    for place in range(0, len(whole), len(whole) // 100):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        for damaged in (bytes(flipped), whole[:place]):
            state.write_bytes(damaged)
            with pytest.raises(InputError, match=r"training\.pt is damaged.*Remove the file"):
                list(train_resumably(ensemble, objective(ensemble), recipe, tmp_path))
    write_with_digest(state, b"no state at all")
    with pytest.raises(InputError, match="is not the state of a training"):
        list(train_resumably(ensemble, objective(ensemble), recipe, tmp_path))


def test_weights_that_are_not_finite_are_never_stored(tmp_path):
    ensemble = Ensemble(networks(1))

    def losses(step):
        return (ensemble.matrix * (1e30 if step == 2 else 1.0)).sum(1) * 0 + (ensemble.matrix * 0).sum(1).sqrt()

    with pytest.raises(DivergenceError, match="a weight is not finite"):
        list(train_resumably(ensemble, losses, Recipe(steps=1, rate=0.01), tmp_path))
    assert not (tmp_path / "training.pt").exists()


def test_time_that_is_over_ends_a_training_whose_sittings_add_up(tmp_path):
    recipe, whole = Recipe(steps=30, rate=0.01), Ensemble(networks(2))
    expected = list(train_resumably(whole, objective(whole), recipe, None))
    found = []
    for _ in range(5):
        again = Ensemble(networks(2))
        with limited() as time_left, contextlib.suppress(OutOfTimeError):
            for step in train_resumably(again, objective(again), recipe, tmp_path):
                found.append(step)
                if len(found) % 7 == 0:
                    time_left.end()
    assert found == expected
    assert torch.equal(again.matrix, whole.matrix)


def test_a_size_grows_in_equal_steps_to_its_end():
    growth = Growth(start=3, by=2, every=10)
    assert [growth.at(step, end=8) for step in (0, 9, 10, 19, 20, 29, 30, 1000)] == [3, 3, 5, 5, 7, 7, 8, 8]
    with pytest.raises(InputError, match="every must be a whole number of at least 1"):
        Growth(1, 1, 0)
