"""One linear-attention layer: what training reaches, its risk on any test distribution, and how fast it learns."""

from insitu.theory.one_layer.all_blocks import Blocks, block_flow, block_gradient, block_hessian, block_loss
from insitu.theory.one_layer.gradient_flow import Flow, descend
from insitu.theory.one_layer.one_step import best_step, best_step_loss, step_error
from insitu.theory.one_layer.population import Population
from insitu.theory.one_layer.random_covariance import DiagonalCovariances, best_product, limit_error, product_loss
from insitu.theory.one_layer.risk import (
    Labels,
    Risk,
    average_linear_risk,
    floor_constant,
    guarantee,
    layer_risk,
    length_for,
    linear_labels,
    linear_risk,
    single_index_labels,
)
from insitu.theory.one_layer.saddles import (
    Staircase,
    head_escape_time,
    head_limit,
    merged_escape_time,
    merged_share,
    plateau_losses,
    staircase,
)
from insitu.theory.one_layer.spurious_minima import StationaryPoint, stationary_points

__all__ = [
    "Blocks",
    "DiagonalCovariances",
    "Flow",
    "Labels",
    "Population",
    "Risk",
    "Staircase",
    "StationaryPoint",
    "average_linear_risk",
    "best_product",
    "best_step",
    "best_step_loss",
    "block_flow",
    "block_gradient",
    "block_hessian",
    "block_loss",
    "descend",
    "floor_constant",
    "guarantee",
    "head_escape_time",
    "head_limit",
    "layer_risk",
    "length_for",
    "limit_error",
    "linear_labels",
    "linear_risk",
    "merged_escape_time",
    "merged_share",
    "plateau_losses",
    "product_loss",
    "single_index_labels",
    "staircase",
    "stationary_points",
    "step_error",
]
