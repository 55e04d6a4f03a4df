"""What every task and every input law keeps, and what each task says of itself."""

from dataclasses import dataclass
from typing import final

import numpy as np
import pytest
import torch
from scipy import stats
from tests.examples import LAWS, PLAIN, TASKS, close

from insitu import InputError, Prompt, Seed, Task
from insitu.learners import GradientDescent, Kaczmarz, LeastSquares, Ridge
from insitu.tasks import (
    Autoregression,
    FunctionTask,
    Gaussian,
    Law,
    LinearClassification,
    LinearRegression,
    Pool,
    RandomCovariance,
    Shifted,
    SigmoidRegression,
    UniformCube,
    complex_entries,
    conjugate_pairs,
    orbit,
    real_entries,
    rotation_blocks,
    sequence_prompt,
)

every_task = pytest.mark.parametrize("task", TASKS, ids=repr)
every_law = pytest.mark.parametrize("law", LAWS, ids=repr)


def draw(task: Task, seed: Seed, batch: int = 5, points: int = 6):
    return task.sample(seed, batch, points, 3 if isinstance(task, FunctionTask) else 1)


def arrays(episode) -> list[torch.Tensor]:
    prompt = episode.prompt
    return [prompt.xs, prompt.ys, prompt.queries, episode.answers, episode.latent]


def same_seed_same_episode(task: Task) -> None:
    for one, other in zip(*(arrays(draw(task, Seed(3) / "x")) for _ in range(2)), strict=True):
        assert torch.equal(one, other)


def another_seed_another_episode(task: Task) -> None:
    one, other = (draw(task, seed) for seed in (Seed(3) / "x", Seed(3) / "y"))
    assert not torch.equal(one.prompt.ys, other.prompt.ys)
    assert not torch.equal(one.latent, other.latent)


def prompts_of_a_batch_differ(task: Task) -> None:
    ys = draw(task, Seed(3)).prompt.ys.flatten(1)
    assert not (ys[1:] == ys[:1]).all()


def float64_on_the_cpu(task: Task) -> None:
    assert {(t.dtype, t.device.type) for t in arrays(draw(task, Seed(0)))} == {(torch.float64, "cpu")}


def shapes_as_asked(task: Task) -> None:
    episode = draw(task, Seed(0))
    prompt = episode.prompt
    queries = 3 if isinstance(task, FunctionTask) else 1
    dim, out = (task.dim, task.out) if isinstance(task, FunctionTask) else (task.dim, task.dim)
    assert (prompt.batch, prompt.points, prompt.dim, prompt.out) == (5, 6, dim, out)
    assert prompt.queries.shape == (5, queries, dim)
    assert episode.answers.shape == (5, queries, out)
    assert len(episode.latent) == 5


@final
@dataclass(frozen=True)
class Saboteur(Task):
    """A linear task that goes wrong in one way."""

    fault: str

    @property
    def dim(self) -> int:
        return 3

    def sample(self, seed, batch, points, queries=1):
        if self.fault == "fresh":
            drawn = torch.Generator()
            drawn.seed()
            seed = seed / int(torch.randint(2**40, (), generator=drawn))
        if self.fault == "stuck":
            seed = Seed(0)
        if self.fault == "too few":
            points -= 1
        episode = LinearRegression(Gaussian(3), out=3).sample(seed, 1 if self.fault == "copied" else batch, points)
        if self.fault == "copied":
            wide = [t.expand(batch, *t.shape[1:]) for t in arrays(episode)]
            episode = type(episode)(type(episode.prompt)(*wide[:3]), *wide[3:])
        return episode.to(torch.float32) if self.fault == "single" else episode


TASK_LAWS = {
    same_seed_same_episode: Saboteur("fresh"),
    another_seed_another_episode: Saboteur("stuck"),
    prompts_of_a_batch_differ: Saboteur("copied"),
    float64_on_the_cpu: Saboteur("single"),
    shapes_as_asked: Saboteur("too few"),
}


@every_task
@pytest.mark.parametrize("law", TASK_LAWS, ids=lambda law: law.__name__)
def test_every_task_keeps(law, task):
    law(task)


@pytest.mark.parametrize(("law", "wrong"), TASK_LAWS.items(), ids=lambda part: getattr(part, "__name__", repr(part)))
def test_the_law_rejects_its_saboteur(law, wrong):
    with pytest.raises(AssertionError):
        law(wrong)


@every_task
@pytest.mark.parametrize("sizes", [(0, 3), (2, 0)], ids=["no prompts", "no examples"])
def test_every_task_refuses_an_empty_axis(task, sizes):
    with pytest.raises(InputError):
        task.sample(Seed(0), *sizes)


def moments_as_stated(law: Law) -> None:
    """Sampled first and second moments, each within 5 of its own standard errors; a constant is exact."""
    xs = law.draw(Seed(1) / "moments", 100, 400).flatten(0, 1).numpy()
    seconds = np.einsum("ni,nj->nij", xs, xs)
    for sampled, stated in ((xs, law.mean()), (seconds, law.second_moment())):
        error = sampled.std(0) / len(xs) ** 0.5
        assert (np.abs(sampled.mean(0) - stated.numpy()) <= 5 * error + 1e-12).all()
    centred = stated_covariance = law.covariance().numpy()
    centred = law.second_moment().numpy() - np.outer(law.mean(), law.mean())
    np.testing.assert_allclose(centred, stated_covariance, atol=1e-12)


@every_law
def test_moments_of_a_law_are_the_sampled_ones(law):
    moments_as_stated(law)


@dataclass(frozen=True)
class Wider(Law):
    """States the moments of a law and draws 3 % too wide."""

    law: Law

    def draw(self, seed, batch, count):
        return 1.03 * self.law.draw(seed, batch, count)

    def mean(self):
        return self.law.mean()

    def covariance(self):
        return self.law.covariance()


@every_law
def test_moments_three_percent_off_are_noticed(law):
    with pytest.raises(AssertionError):
        moments_as_stated(Wider(law))


def test_cube_stays_inside_and_reaches_its_faces():
    xs = UniformCube(2, shift=1.0).draw(Seed(0), 10, 1000)
    assert 0 <= xs.min() < 0.01
    assert 1.99 < xs.max() <= 2


def test_gaussian_of_low_rank_stays_in_its_range():
    basis = (Seed(0) / "basis").normal(6, 3)
    covariance = basis @ basis.T
    law = Gaussian(6, tuple(map(tuple, ((covariance + covariance.T) / 2).tolist())))
    xs = law.draw(Seed(1), 1, 200)[0]
    outside = xs - xs @ torch.linalg.pinv(basis).T @ basis.T
    assert outside.abs().max() < 1e-12
    assert torch.linalg.matrix_rank(xs) == 3


@pytest.mark.parametrize(
    ("covariance", "match"),
    [
        ((1.0, 2.0), "shape"),
        (((1.0, 0.5, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), "symmetric"),
        (((1.0, 2.0, 0.0), (2.0, 1.0, 0.0), (0.0, 0.0, 1.0)), "semidefinite; its least eigenvalue is -1"),
        (float("nan"), "finite"),
        (-1.0, "semidefinite"),
    ],
)
def test_gaussian_refuses_what_is_no_covariance(covariance, match):
    with pytest.raises(InputError, match=match):
        Gaussian(3, covariance)


def test_linear_answers_are_the_noise_free_products():
    episode = draw(PLAIN, Seed(0))
    expected = np.einsum("bod,bqd->bqo", episode.latent, episode.prompt.queries)
    np.testing.assert_allclose(episode.answers, expected, atol=1e-12)


def test_linear_labels_carry_noise_of_the_stated_size():
    episode = LinearRegression(Gaussian(3), noise=0.5).sample(Seed(0), 2000, 5)
    noise = episode.prompt.ys[..., 0] - (episode.prompt.xs @ episode.latent.mT)[..., 0]
    error = 0.25 * (2 / noise.numel()) ** 0.5  # of the variance of 10 000 normal numbers
    assert abs(noise.var().item() - 0.25) < 4 * error
    assert abs((noise * episode.prompt.xs[..., 0]).mean().item()) < 4 * 0.5 / noise.numel() ** 0.5


def test_weights_follow_the_weight_law():
    task = LinearRegression(Gaussian(2), weights=Gaussian(2, covariance_of=9.0, shift=2.0), out=3)
    weights = task.sample(Seed(0), 4000, 1).latent.flatten(0, 1)
    assert (weights.mean(0) - 2).abs().max() < 4 * 3 / len(weights) ** 0.5
    assert (weights.var(0) - 9).abs().max() < 4 * 9 * (2 / len(weights)) ** 0.5


def test_sigmoid_values_by_numpy():
    episode = draw(SigmoidRegression(Gaussian(3), out=2), Seed(0))
    for xs, values in ((episode.prompt.xs, episode.prompt.ys), (episode.prompt.queries, episode.answers)):
        score = np.einsum("bod,bqd->bqo", episode.latent, xs)
        np.testing.assert_allclose(values, 1 / (1 + np.exp(-score)) - 0.5, atol=1e-12)


def test_classes_are_one_hot_rows_of_the_largest_score():
    episode = draw(LinearClassification(UniformCube(3), out=4), Seed(0))
    score = np.einsum("bod,bqd->bqo", episode.latent, episode.prompt.xs)
    assert np.array_equal(episode.prompt.ys, np.eye(4)[score.argmax(-1)])


def test_flipped_classes_are_one_hot_and_as_frequent_as_stated():
    task = LinearClassification(Gaussian(3), out=3, flip=0.3)
    episode = task.sample(Seed(0), 2000, 5)
    ys = episode.prompt.ys
    assert torch.equal(ys.sort(-1).values, torch.tensor([0.0, 0.0, 1.0], dtype=ys.dtype).expand_as(ys))
    wrong = 1 - (ys * task.values(episode.latent, episode.prompt.xs)).sum(-1)
    rate = 0.3 * 2 / 3  # a class drawn at random is the right one in a third of the cases
    assert abs(wrong.mean().item() - rate) < 4 * (rate * (1 - rate) / wrong.numel()) ** 0.5


def test_a_flip_probability_above_one_is_refused():
    with pytest.raises(InputError, match="flip"):
        LinearClassification(Gaussian(3), flip=1.5)


def test_pool_draws_its_fixed_members_equally_often():
    pool = Pool(LinearRegression(Gaussian(3)), size=4, seed=Seed(7))
    latents = pool.sample(Seed(0), 4000, 1).latent
    hits = (latents[:, None] == pool.members()).all(-1).all(-1)
    assert hits.sum(1).eq(1).all()
    assert (hits.double().mean(0) - 0.25).abs().max() < 4 * (0.25 * 0.75 / 4000) ** 0.5


def test_pools_of_different_seeds_differ_and_leave_the_inputs_alone():
    one, other = (Pool(PLAIN, size=4, seed=Seed(s)) for s in (1, 2))
    assert not torch.equal(one.members(), other.members())
    assert torch.equal(draw(one, Seed(0)).prompt.xs, draw(PLAIN, Seed(0)).prompt.xs)


CLEAN = LinearRegression(Gaussian(3), out=2)
TURN = ((0.0, 2.0, 0.0), (1.0, 0.0, 0.5), (0.0, 0.0, 3.0))


def test_shift_scales_and_transforms_inputs_and_queries_and_labels_follow():
    plain, shifted = (draw(task, Seed(0)) for task in (CLEAN, Shifted(CLEAN, scale=3.0, transform=TURN)))
    for name in ("xs", "queries"):
        moved = 3 * np.einsum("ij,bkj->bki", np.array(TURN), getattr(plain.prompt, name))
        np.testing.assert_allclose(getattr(shifted.prompt, name), moved, atol=1e-12)
    assert torch.equal(plain.latent, shifted.latent)
    close(shifted.prompt.ys, shifted.prompt.xs @ shifted.latent.mT)
    close(shifted.answers, shifted.prompt.queries @ shifted.latent.mT)


def test_transform_turns_the_covariance():
    spread = ((2.0, 1.0, 0.0), (1.0, 2.0, -0.5), (0.0, -0.5, 1.0))
    law = Gaussian(3, covariance_of=spread)
    xs = Shifted(LinearRegression(law), transform=TURN).sample(Seed(0), 100, 400).prompt.xs.flatten(0, 1).numpy()
    turned = np.array(TURN) @ np.array(spread) @ np.array(TURN).T
    seconds = np.einsum("ni,nj->nij", xs, xs)
    assert (np.abs(seconds.mean(0) - turned) < 5 * seconds.std(0) / len(xs) ** 0.5).all()


def test_query_law_replaces_the_queries_unscaled_and_nothing_else():
    cube = UniformCube(3, shift=10.0)
    scaled = Shifted(CLEAN, scale=3.0)
    plain, shifted = (draw(task, Seed(0)) for task in (scaled, Shifted(CLEAN, scale=3.0, query_law=cube)))
    assert torch.equal(plain.prompt.xs, shifted.prompt.xs)
    assert torch.equal(plain.prompt.ys, shifted.prompt.ys)
    assert (shifted.prompt.queries - 10).abs().max() <= 1
    close(shifted.answers, shifted.prompt.queries @ shifted.latent.mT)


@pytest.mark.parametrize(
    ("task", "std"),
    [
        (Shifted(CLEAN, noise=0.5), 0.5),
        (Shifted(PLAIN, noise=0.5), 0.5**0.5),
        (Shifted(Shifted(CLEAN, noise=1.0), noise=1.0), 2**0.5),
    ],
    ids=["alone", "on a noisy task", "on itself"],
)
def test_shifted_noise_is_added_independently(task, std):
    episode = task.sample(Seed(0), 2000, 5)
    variance = (episode.prompt.ys - episode.prompt.xs @ episode.latent.mT).var().item()
    assert abs(variance - std**2) < 4 * std**2 * (2 / 20_000) ** 0.5
    close(episode.answers, episode.prompt.queries @ episode.latent.mT)


ORDERS = {
    "as drawn": lambda xs, ys: np.arange(len(xs)),
    "reversed": lambda xs, ys: np.arange(len(xs))[::-1],
    "by label": lambda xs, ys: np.argsort(ys[:, 0], kind="stable"),
    "by norm": lambda xs, ys: np.argsort((xs**2).sum(1), kind="stable"),
}


@pytest.mark.parametrize("order", ORDERS)
def test_orders_move_whole_examples(order):
    plain, shifted = (draw(task, Seed(0)).prompt for task in (PLAIN, Shifted(PLAIN, order=order)))
    for b in range(plain.batch):
        rank = ORDERS[order](plain.xs[b].numpy(), plain.ys[b].numpy())
        assert np.array_equal(shifted.xs[b], plain.xs[b].numpy()[rank])
        assert np.array_equal(shifted.ys[b], plain.ys[b].numpy()[rank])
    assert torch.equal(plain.queries, shifted.queries)


def test_shuffling_permutes_every_prompt_in_its_own_way():
    task = Shifted(PLAIN, order="shuffled")
    plain, shuffled = (t.sample(Seed(0), 600, 3).prompt for t in (PLAIN, task))
    same = (shuffled.xs[:, :, None] == plain.xs[:, None]).all(-1)
    assert same.sum((1, 2)).eq(3).all()
    ranks = same.long().argmax(-1)
    assert torch.equal(shuffled.ys, plain.ys.take_along_dim(ranks[..., None], 1))
    _, counts = ranks.unique(dim=0, return_counts=True)
    assert len(counts) == 6
    assert (counts - 100).abs().max() < 4 * (600 * 5 / 36) ** 0.5


def test_shifts_compose():
    descending = Shifted(Shifted(PLAIN, order="by norm"), order="reversed")
    sizes = draw(descending, Seed(0)).prompt.xs.norm(dim=-1)
    assert (sizes.diff(dim=1) < 0).all()


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"scale": 0.0}, "scale"),
        ({"scale": -1.0}, "scale"),
        ({"noise": float("nan")}, "noise"),
        ({"transform": ((1.0, 0.0), (0.0, 1.0))}, "3 rows"),
        ({"query_law": Gaussian(2)}, "query_law has dim 2"),
        ({"order": "sorted"}, "by norm"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("as_users_run")
def test_shift_refuses(wrong, match):
    with pytest.raises(InputError, match=match):
        Shifted(PLAIN, **wrong)


@pytest.mark.parametrize("context", ["rotations", "haar"])
def test_sequences_follow_their_orthogonal_matrix(context):
    episode = Autoregression(4, context).sample(Seed(0), batch=5, points=6)
    prompt, matrices = episode.prompt, episode.latent.numpy()
    np.testing.assert_allclose(np.einsum("bij,bkj->bki", matrices, prompt.xs), prompt.ys, atol=1e-12)
    np.testing.assert_allclose(np.einsum("bij,bkj->bki", matrices, prompt.queries), episode.answers, atol=1e-12)
    assert torch.equal(prompt.ys[:, :-1], prompt.xs[:, 1:])
    assert torch.equal(prompt.ys[:, -1:], prompt.queries)
    assert (prompt.xs[:, 0] == 1).all()
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1), np.broadcast_to(np.eye(4), (5, 4, 4)), atol=1e-12
    )


def test_rotations_commute_and_haar_matrices_do_not():
    for context, commute in (("rotations", True), ("haar", False)):
        one, other = Autoregression(4, context).matrices(Seed(0), 2)
        assert torch.allclose(one @ other, other @ one) == commute


def test_complex_entries_turn_rotations_into_factors():
    """A commuting orthogonal sequence is a commuting unitary one in half the dimension, and back."""
    angles = 2 * torch.pi * Seed(0).uniform(5, 3)
    start = Seed(1).normal(6)
    real = orbit(rotation_blocks(angles), start, 9)
    numbers = orbit(torch.exp(1j * angles).diag_embed(), complex_entries(start), 9)
    torch.testing.assert_close(complex_entries(real), numbers, rtol=0, atol=1e-12)
    torch.testing.assert_close(real_entries(numbers), real, rtol=0, atol=1e-12)
    pairs = conjugate_pairs(real)
    values = torch.stack([torch.exp(1j * angles), torch.exp(-1j * angles)], -1).flatten(1)
    torch.testing.assert_close(pairs[:, 1:], pairs[:, :-1] * values[:, None], rtol=0, atol=1e-12)
    torch.testing.assert_close(pairs.norm(dim=-1), real.norm(dim=-1))


@pytest.mark.parametrize("learner", [LeastSquares(), Ridge(0.5), GradientDescent(3, 0.4), Kaczmarz(2)], ids=repr)
def test_learners_with_several_outputs_answer_sequences_at_every_prefix(learner):
    """A learner reads a sequence as it would read d problems of one output, however long it is."""
    for context in ("rotations", "haar"):
        prompt = Autoregression(4, context, noise=0.1).sample(Seed(0), batch=3, points=7).prompt
        whole = learner.predict_prefixes(prompt)
        assert whole.shape == (3, 7, 1, 4)
        for coordinate in range(4):
            single = Prompt(prompt.xs, prompt.ys[..., coordinate, None], prompt.queries)
            close(learner.predict_prefixes(single)[..., 0], whole[..., coordinate])
        for length in (1, 4, 7):
            close(learner.predict(prompt.prefix(length)), whole[:, length - 1])


def test_least_squares_recovers_a_sequence_once_it_spans_the_space():
    for context in ("rotations", "haar"):
        episode = Autoregression(4, context).sample(Seed(0), batch=20, points=6)
        errors = (LeastSquares().predict_prefixes(episode.prompt) - episode.answers[:, None]).abs().amax((0, 2, 3))
        assert errors[0] > 0.1
        assert errors[3:].max() < 1e-6


def test_concentrated_angles_fill_their_arc_evenly():
    angles = complex_entries(Autoregression(2, concentration=5.0).matrices(Seed(0), 4000)[:, :, 0]).angle()
    assert stats.kstest(angles, stats.uniform(0, 2 * np.pi / 5).cdf).pvalue > 1e-3


def test_noise_enters_every_step_and_not_the_answer():
    episode = Autoregression(4, "haar", noise=0.5).sample(Seed(0), 2000, 5)
    steps = episode.prompt.ys - episode.prompt.xs @ episode.latent.mT
    assert abs(steps.var().item() - 0.25) < 4 * 0.25 * (2 / steps.numel()) ** 0.5
    assert torch.equal(episode.prompt.ys[:, :-1], episode.prompt.xs[:, 1:])
    close(episode.answers, episode.prompt.queries @ episode.latent.mT, tolerance=1e-12)


def test_a_sequence_starts_where_it_is_told():
    start = (0.5, -1.0, 0.0)
    assert (Autoregression(3, "haar", start=start).sample(Seed(0), 4, 2).prompt.xs[:, 0] == torch.tensor(start)).all()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: orbit(torch.ones(1, 2, 2), torch.ones(2), 3), r"W must be orthogonal.*W\*W - I is 2"),
        (lambda: orbit(torch.full((1, 2, 2), torch.nan), torch.ones(2), 3), "orthogonal"),
        (lambda: orbit(torch.eye(2)[None], torch.zeros(2), 3), r"not zero; got \[0.0, 0.0\]"),
        (lambda: orbit(torch.eye(2)[None], torch.tensor([1.0, torch.nan]), 3), "finite.*nan"),
        (lambda: orbit(torch.eye(2)[None], torch.ones(3), 3), r"\(1, 2, 2\) and \(3,\)"),
        (lambda: orbit(torch.eye(2)[None], torch.ones(2), 1), "length.*at least 2; got 1"),
        (lambda: orbit(torch.eye(2)[None], torch.ones(2), 3, torch.ones(1, 3, 2)), r"\(1, 2, 2\)"),
        (lambda: sequence_prompt(torch.ones(1, 1, 2)), "at least two entries"),
        (lambda: complex_entries(torch.ones(3)), "even; got 3"),
        (lambda: Autoregression(4, concentration=0.5), "at least 1; got 0.5"),
        (lambda: Autoregression(4, "haar", concentration=2.0), "rotations"),
        (lambda: Autoregression(4, noise=-1.0), "noise"),
        (lambda: Autoregression(2, start=(0.0, 0.0)), "not all zero"),
        (lambda: Autoregression(2, start=(1.0, float("nan"))), "finite"),
        (lambda: Autoregression(2, start=(1.0,)), "2 finite numbers"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_sequences_refuse_what_they_cannot_use(make, match):
    with pytest.raises(InputError, match=match):
        make()


def test_rotation_blocks_have_the_stated_eigenvalues():
    angles = torch.tensor([[0.3, 1.2]], dtype=torch.float64)
    values = np.linalg.eigvals(rotation_blocks(angles)[0].numpy())
    expected = [np.exp(sign * 1j * angle) for angle in (0.3, 1.2) for sign in (1, -1)]
    np.testing.assert_allclose(np.sort_complex(values), np.sort_complex(expected), atol=1e-12)


def test_haar_matrices_have_haar_moments():
    """E W_ij = 0, E W_ij^2 = 1/d, E W_ij^4 = 3/(d(d+2)), E (tr W)^2 = 1, E tr W^2 = 1, and half have det -1."""
    dim, count = 3, 40_000
    drawn = Autoregression(dim, "haar").matrices(Seed(0), count)
    trace = drawn.diagonal(dim1=1, dim2=2).sum(1)
    square = (drawn @ drawn).diagonal(dim1=1, dim2=2).sum(1)
    checks = [(drawn, 0.0), (drawn**2, 1 / dim), (drawn**4, 3 / (dim * (dim + 2)))]
    checks += [(trace, 0.0), (trace**2, 1.0), (square, 1.0), (torch.linalg.det(drawn), 0.0)]
    for values, expected in checks:
        error = values.std(0) / count**0.5
        assert ((values.mean(0) - expected).abs() < 4.5 * error).all()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Autoregression(3), "must be even"),
        (lambda: Autoregression(0), "at least 1"),
        (lambda: Autoregression(4, "circulant"), "rotations.*haar"),
        (lambda: Autoregression(4).sample(Seed(0), 2, 3, 2), "one query"),
        (lambda: LinearRegression(Gaussian(3), weights=Gaussian(2)), "same dim"),
        (lambda: LinearRegression(Gaussian(3), noise=-1.0), "noise"),
        (lambda: LinearRegression(Gaussian(3), out=0), "out"),
        (lambda: Pool(PLAIN, size=0, seed=Seed(0)), "size"),
        (lambda: UniformCube(0), "dim"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_tasks_refuse_what_they_cannot_use(make, match):
    with pytest.raises(InputError, match=match):
        make()


def test_seeds_are_places():
    place = Seed(0) / "a" / 1
    assert torch.equal(place.normal(4), (Seed(0) / "a" / 1).normal(4))
    elsewhere = [Seed(1) / "a" / 1, Seed(0) / "a" / "1", Seed(0) / "a", Seed(0) / "a/1", Seed(0) / 1 / "a"]
    assert not any(torch.equal(place.normal(4), other.normal(4)) for other in elsewhere)


@pytest.mark.parametrize(
    ("spectrum", "law"),
    [
        ("exponential", stats.expon()),
        ("uniform", stats.uniform(0, 2)),
        ("lognormal", stats.lognorm(1, scale=np.exp(-0.5))),
    ],
)
def test_spectra_follow_their_laws(spectrum, law):
    task = RandomCovariance(Gaussian(2), spectrum=spectrum)
    spectra = task.sample(Seed(0), 4000, 1).latent[:, -1]
    assert stats.kstest(spectra.flatten(), law.cdf).pvalue > 1e-3
    assert stats.kstest(1.1 * spectra.flatten(), law.cdf).pvalue < 1e-3
    assert law.mean() == pytest.approx(1)


def test_inputs_and_queries_of_a_prompt_share_its_covariance():
    episode = RandomCovariance(Gaussian(3)).sample(Seed(0), 4, 4000, queries=4000)
    stds = episode.latent[:, -1].sqrt()
    for part in (episode.prompt.xs, episode.prompt.queries):
        assert (part.std(1) / stds - 1).abs().max() < 5 / 8000**0.5
        assert (part.std(1) / stds.roll(1, 0) - 1).abs().max() > 0.2
