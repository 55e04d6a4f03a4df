"""Reference learners: textbook algorithms as predictors."""

from insitu.learners.bayes import FinitePool
from insitu.learners.causal import CausalDescent
from insitu.learners.descent import GradientDescent, Kaczmarz, Newton, OnlineDescent
from insitu.learners.expression import LEARNERS, learner
from insitu.learners.learner import Learner, LinearLearner
from insitu.learners.least_squares import LeastSquares, Ridge
from insitu.learners.logistic import LogisticRegression
from insitu.learners.neighbours import KernelSmoother, NearestNeighbours
from insitu.learners.references import bayes_optimal
from insitu.learners.trivial import Mean, Zero

__all__ = [
    "LEARNERS",
    "CausalDescent",
    "FinitePool",
    "GradientDescent",
    "Kaczmarz",
    "KernelSmoother",
    "Learner",
    "LeastSquares",
    "LinearLearner",
    "LogisticRegression",
    "Mean",
    "NearestNeighbours",
    "Newton",
    "OnlineDescent",
    "Ridge",
    "Zero",
    "bayes_optimal",
    "learner",
]
