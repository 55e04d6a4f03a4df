"""One small call of every public function of the exact theory, for the laws of its arguments."""

from functools import partial

import torch

from insitu.seed import Seed
from insitu.theory import convergence
from insitu.theory.one_layer import (
    all_blocks,
    gradient_flow,
    one_step,
    population,
    random_covariance,
    risk,
    saddles,
    spurious_minima,
)
from insitu.theory.sequences import (
    diagonal_heads,
    free_heads,
    gradient_step,
    head_minima,
    lagged_query,
    position_attention,
    rotations,
)


def tensor(*rows: object) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# Whole numbers, so that lists of integers hold the same.
XS = tensor([[1, 0], [1, 2], [-1, 1]], [[2, 1], [0, 1], [1, 1]])
YS = tensor([[1], [0], [2]], [[2], [1], [-1]])
SQUARE = tensor([2, 1], [1, 3])
EYE = tensor([1, 0], [0, 1])
LINE = tensor(1, 2)
ONE = torch.tensor(1.0, dtype=torch.float64)
TIMES = tensor(0, 1)
MOMENTS = tensor([1, 2, 6], [1, 1, 1])
COVARIANCES = torch.stack([SQUARE, EYE])
SHORT = tensor(1)
LAYER = population.Population(SQUARE, 4)
NARROW = population.Population(tensor([2]), 4)
WEIGHTS = all_blocks.Blocks(tensor([1]), SHORT, SHORT, ONE)
LABELS = risk.Labels(LINE, SQUARE, 1.0)
LAW = random_covariance.DiagonalCovariances(SQUARE, LINE, LINE)
STAIRS = saddles.Staircase(tensor(0, 1, 2), tensor(3, 2, 1), tensor(1, 1, 1), torch.stack([EYE] * 3))
PAIRS = diagonal_heads.DiagonalHeads(2, 3, "orthogonal")
POSITIONS = tensor([1, 1, 0], [0, 1, 1])
HEADS = diagonal_heads.HeadWeights(EYE, EYE, POSITIONS)
FREE = free_heads.FreeLayer(1, 3)
SCORES, VALUES = tensor([[0, 0], [1, 0]]), tensor([[1, 0]])
STEP = gradient_step.SequenceStep(2, 3)
ANGLES = position_attention.Positions(tensor(1, 0, 0, 0, 0))

CALLS: list[partial] = [
    partial(convergence.stationary_weights, xs=XS, ys=YS, variant="causal"),
    partial(convergence.error_step, xs=XS, rate=0.1, variant="prefix"),
    partial(convergence.contraction, xs=XS, rate=0.1, variant="normalised"),
    partial(convergence.step_limit, xs=XS, variant="prefix"),
    partial(convergence.best_rate, xs=XS),
    partial(convergence.layers_needed, xs=XS, ys=YS, rate=0.1, tolerance=0.1, variant="causal"),
    partial(convergence.place_iterates, xs=XS, ys=YS, rate=0.1, layers=2, normalised=True, start=tensor([1, 2])),
    partial(convergence.shrink_and_project, xs=XS, ys=YS),
    partial(convergence.causal_error, dim=3, points=4, second_moment=1.0, noise=0.5, inverse_square=1.0),
    partial(convergence.normalised_causal_error, dim=3, points=4, second_moment=1.0, noise=0.5, inverse_square=1.0),
    partial(convergence.uniform_inverse_square, dim=3),
    partial(convergence.gaussian_inverse_square, dim=3),
    partial(all_blocks.Blocks, matrix=SQUARE, reading=LINE, matching=LINE, scalar=ONE),
    partial(all_blocks.Blocks.unflatten, flat=tensor(*range(9)), dim=2),
    partial(all_blocks.block_loss, population=NARROW, blocks=WEIGHTS),
    partial(all_blocks.flat_loss, population=NARROW),
    partial(all_blocks.block_gradient, population=NARROW, blocks=WEIGHTS),
    partial(all_blocks.block_hessian, population=NARROW, blocks=WEIGHTS),
    partial(all_blocks.block_flow, population=NARROW, start=WEIGHTS, times=tensor(0), hold=False),
    partial(
        gradient_flow.decoupled_flow,
        rates=SQUARE,
        pushes=LINE,
        matrix=EYE,
        scalar=ONE,
        times=TIMES,
        least=1.0,
        hold=True,
    ),
    partial(
        gradient_flow.integrated,
        velocity=lambda _time, state: -state,
        state=LINE,
        times=TIMES,
        slopes=None,
        tolerance=1e-6,
    ),
    partial(
        gradient_flow.descend,
        loss=lambda w: w.square().sum(),
        start=[LINE],
        optimiser=lambda w: torch.optim.SGD(w, lr=0.1),
    ),
    partial(one_step.label_moment, covariance=SQUARE, length=4, weights=EYE, noise_variance=1.0),
    partial(one_step.step_error, step=EYE, covariance=SQUARE, length=4, query=EYE, weights=SQUARE, noise_variance=1.0),
    partial(one_step.best_step, covariance=SQUARE, length=4, weights=EYE, noise_variance=1.0),
    partial(one_step.best_step_loss, covariance=SQUARE, length=4, weights=EYE, noise_variance=1.0),
    partial(population.Population, covariance=SQUARE, length=4),
    partial(LAYER.from_eigenvalues, values=LINE),
    partial(LAYER.loss, matrix=EYE, scalar=ONE),
    partial(LAYER.gap, matrix=EYE, scalar=ONE),
    partial(LAYER.squared_slope, matrix=EYE, scalar=ONE),
    partial(LAYER.balanced_start, shape=EYE, scale=0.1),
    partial(LAYER.scalar_floor, shape=EYE, scale=0.1),
    partial(LAYER.descent_constant, shape=EYE, scale=0.1),
    partial(LAYER.flow, matrix=EYE, scalar=ONE, times=TIMES, hold=True),
    partial(random_covariance.DiagonalCovariances, rates=SQUARE, pushes=LINE, means=LINE),
    partial(random_covariance.DiagonalCovariances.from_moments, moments=MOMENTS, length=4),
    partial(random_covariance.DiagonalCovariances.from_samples, eigenvalues=SQUARE, length=4),
    partial(LAW.scaled, factor=2.0),
    partial(LAW.loss, product=EYE),
    partial(LAW.flow, matrix=EYE, scalar=ONE, times=TIMES),
    partial(random_covariance.best_product, covariances=COVARIANCES, length=4),
    partial(random_covariance.product_loss, product=EYE, covariances=COVARIANCES, length=4),
    partial(random_covariance.initialisation_limit, shape=EYE, eigenvalues=SQUARE, length=4),
    partial(random_covariance.scalar_floor, shape=EYE, eigenvalues=SQUARE, length=4, scale=0.1),
    partial(random_covariance.descent_constant, shape=EYE, eigenvalues=SQUARE, length=4, scale=0.1),
    partial(random_covariance.limit_error, moments=MOMENTS),
    partial(risk.Labels, cross=LINE, spread=SQUARE, residual=1.0),
    partial(risk.layer_risk, population=LAYER, test_length=5, labels=LABELS),
    partial(risk.linear_labels, population=LAYER, weights=LINE, noise_variance=1.0),
    partial(risk.single_index_labels, population=LAYER, direction=LINE, link=torch.sign, noise_variance=1.0),
    partial(risk.linear_risk, population=LAYER, test_length=5, weights=LINE, noise_variance=1.0),
    partial(risk.average_linear_risk, population=LAYER, test_length=5, noise_variance=1.0),
    partial(risk.floor_constant, population=LAYER),
    partial(risk.guarantee, population=LAYER),
    partial(risk.length_for, population=LAYER, excess=0.5),
    partial(saddles.merged_share, times=TIMES, dim=2, length=4, start=0.1),
    partial(saddles.merged_escape_time, population=LAYER, start=0.1),
    partial(saddles.plateau_losses, population=LAYER),
    partial(saddles.head_limit, population=LAYER),
    partial(saddles.head_escape_time, population=LAYER, start=0.1),
    partial(saddles.staircase, population=LAYER, seed=Seed(0), heads=1, start=0.1, horizon=0.5),
    partial(STAIRS.plateaus, prominence=5.0),
    partial(spurious_minima.stationary_points, population=NARROW, seed=Seed(0), starts=1, scale=0.1, steps=60),
    partial(spurious_minima.settle, population=NARROW, flat=tensor([1, 0, 0, 1]), steps=2),
    partial(diagonal_heads.DiagonalHeads, dim=2, length=3, context="orthogonal"),
    partial(diagonal_heads.HeadWeights, keys=EYE, values=EYE, positions=POSITIONS),
    partial(PAIRS.losses, merged=EYE, positions=POSITIONS),
    partial(PAIRS.loss, heads=HEADS),
    partial(PAIRS.gradient, heads=HEADS),
    partial(PAIRS.loss_and_gradient, heads=HEADS),
    partial(PAIRS.minimum, heads=1),
    partial(PAIRS.family, rho=0.5, scale=2.0),
    partial(PAIRS.valley, lean=3.0),
    partial(PAIRS.best_positions, merged=EYE),
    partial(PAIRS.predict, heads=HEADS, sequence=torch.ones(1, 3, 2, dtype=torch.complex128), lag=1),
    partial(free_heads.FreeLayer, dim=1, length=3, context="unitary"),
    partial(free_heads.LayerWeights, scores=SCORES, values=VALUES),
    partial(FREE.losses, weights=free_heads.LayerWeights(SCORES, VALUES)),
    partial(FREE.loss, weights=free_heads.LayerWeights(SCORES, VALUES)),
    partial(FREE.step, rate=0.5),
    partial(FREE.minimise, heads=1, seed=Seed(0), starts=1, scale=0.3, blocks="step"),
    partial(gradient_step.SequenceStep, dim=2, length=3, form="matrix"),
    partial(STEP.losses, rate=LINE),
    partial(STEP.gradient, rate=0.5),
    partial(head_minima.descend, problem=PAIRS, heads=HEADS, rate=0.01, steps=2, record=1),
    partial(head_minima.random_heads, problem=PAIRS, heads=1, seed=Seed(0), starts=2, scale=0.1),
    partial(head_minima.minima, problem=PAIRS, heads=1, seed=Seed(0), starts=1, scale=0.1, steps=5),
    partial(lagged_query.relaxed_minimum, dim=2, length=3, context="orthogonal", lag=1),
    partial(lagged_query.terms, dim=2, length=3, context="orthogonal", lag=1, coordinate=0),
    partial(position_attention.arc_moments, length=2, concentration=2.0),
    partial(position_attention.sample_moments, length=2, angles=LINE),
    partial(position_attention.Positions, moments=tensor(1, 0, 0, 0, 0)),
    partial(ANGLES.losses, positions=tensor([1, 1])),
    partial(ANGLES.gradient, positions=tensor([1, 1])),
    partial(ANGLES.descend, rate=0.1, stop=0.1, most=2),
    partial(rotations.three_term_step, before=LINE, now=LINE),
]
