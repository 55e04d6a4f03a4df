"""Reference learners: textbook algorithms as predictors."""

from insitu.learners.bayes import FinitePool, NoiseMixture
from insitu.learners.causal import CausalDescent
from insitu.learners.conjugate import ConjugateGradient
from insitu.learners.descent import GradientDescent, Momentum, Nesterov
from insitu.learners.expression import learner
from insitu.learners.kernels import GaussianProcess
from insitu.learners.learner import Learner, LinearLearner
from insitu.learners.least_squares import LeastSquares, RecursiveLeastSquares, Ridge
from insitu.learners.logistic import LogisticRegression
from insitu.learners.neighbours import KernelSmoother, NearestNeighbours, SoftmaxSmoother
from insitu.learners.newton import Newton
from insitu.learners.online import Kaczmarz, OnlineDescent
from insitu.learners.references import bayes_optimal
from insitu.learners.spectral import GradientDescentPlus, PrincipalComponents
from insitu.learners.trivial import Mean, RecentMean, Zero

__all__ = [
    "CausalDescent",
    "ConjugateGradient",
    "FinitePool",
    "GaussianProcess",
    "GradientDescent",
    "GradientDescentPlus",
    "Kaczmarz",
    "KernelSmoother",
    "Learner",
    "LeastSquares",
    "LinearLearner",
    "LogisticRegression",
    "Mean",
    "Momentum",
    "NearestNeighbours",
    "Nesterov",
    "Newton",
    "NoiseMixture",
    "OnlineDescent",
    "PrincipalComponents",
    "RecentMean",
    "RecursiveLeastSquares",
    "Ridge",
    "SoftmaxSmoother",
    "Zero",
    "bayes_optimal",
    "learner",
]
