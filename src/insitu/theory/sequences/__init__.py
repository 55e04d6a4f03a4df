"""Linear attention on sequences whose entries are linear functions of the entries before them."""

from insitu.theory.sequences.diagonal_heads import DiagonalHeads, HeadWeights
from insitu.theory.sequences.free_heads import FreeLayer, LayerWeights
from insitu.theory.sequences.gradient_step import SequenceStep
from insitu.theory.sequences.head_minima import Minimum, minima, random_heads
from insitu.theory.sequences.lagged_query import relaxed_minimum
from insitu.theory.sequences.position_attention import PositionDescent, Positions, arc_moments, sample_moments
from insitu.theory.sequences.rotations import three_term_step

__all__ = [
    "DiagonalHeads",
    "FreeLayer",
    "HeadWeights",
    "LayerWeights",
    "Minimum",
    "PositionDescent",
    "Positions",
    "SequenceStep",
    "arc_moments",
    "minima",
    "random_heads",
    "relaxed_minimum",
    "sample_moments",
    "three_term_step",
]
