"""One small instance of every final class, for the laws; `tests/test_structure.py` fails where one is missing."""

import importlib
import inspect
import pkgutil
from itertools import product

import torch
from tests.rounding import rounding

import insitu
from insitu import Predictor, Prompt, Seed, Task
from insitu.identification.combinations import Blend, Mapped
from insitu.language.numbers import NumberLines
from insitu.language.numbers.candidates import FromOrigin, Rounded
from insitu.learners import (
    CausalDescent,
    ConjugateGradient,
    FinitePool,
    GaussianProcess,
    GradientDescent,
    GradientDescentPlus,
    Kaczmarz,
    KernelSmoother,
    Learner,
    LeastSquares,
    LogisticRegression,
    Mean,
    Momentum,
    NearestNeighbours,
    Nesterov,
    Newton,
    NoiseMixture,
    OnlineDescent,
    PrincipalComponents,
    RecentMean,
    RecursiveLeastSquares,
    Ridge,
    SoftmaxSmoother,
    Zero,
)
from insitu.learners.kernels import KERNELS
from insitu.models import (
    Architecture,
    AttentionNetwork,
    AugmentedArchitecture,
    AugmentedStack,
    Causal,
    Decoder,
    DecoderArchitecture,
    HeadsArchitecture,
    Mask,
    Network,
    PositionedHeads,
    Prefix,
    SelfVisible,
    Transformer,
    TransformerArchitecture,
    initialise,
)
from insitu.predictor import FunctionPredictor
from insitu.tasks import (
    Autoregression,
    Gaussian,
    Law,
    LinearClassification,
    LinearRegression,
    Pool,
    RandomCovariance,
    Shifted,
    SigmoidRegression,
    UniformCube,
)

# The networks below sum over at most 26 tokens, of size 4, four times in each of two layers.
TOLERANCE = {torch.float64: 1e-9, torch.float32: rounding(terms=26, size=4, steps=8, dtype=torch.float32)}

LAWS: list[Law] = [
    UniformCube(3),
    UniformCube(3, shift=-0.5),
    Gaussian(3),
    Gaussian(3, covariance_of=4.0, shift=1.0),
    Gaussian(3, covariance_of=(3.0, 1.0, 0.25)),
    Gaussian(3, covariance_of=((2.0, 1.0, 0.0), (1.0, 2.0, -0.5), (0.0, -0.5, 1.0))),
]

PLAIN = LinearRegression(Gaussian(3), noise=0.5, out=2)
TASKS: list[Task] = [
    PLAIN,
    LinearRegression(UniformCube(4), weights=Gaussian(4, covariance_of=2.0)),
    SigmoidRegression(Gaussian(3), noise=0.1, out=2),
    LinearClassification(UniformCube(3), flip=0.25),
    Pool(PLAIN, size=4, seed=Seed(7)),
    RandomCovariance(Gaussian(3), noise=0.5, out=2),
    RandomCovariance(Gaussian(2, covariance_of=((2.0, 1.0), (1.0, 2.0))), spectrum="lognormal"),
    Shifted(PLAIN, scale=2.0, noise=0.5, order="by label"),
    Shifted(RandomCovariance(Gaussian(3), spectrum="uniform"), scale=2.0),
    Autoregression(4),
    Autoregression(3, context="haar"),
    Autoregression(2, concentration=50.0, noise=0.1, start=(1.0, 0.0)),
]

LEARNERS: list[Learner] = [
    Zero(),
    Mean(),
    RecentMean(forgetting=0.7),
    NearestNeighbours(k=3),
    KernelSmoother(bandwidth=0.7),
    SoftmaxSmoother(scale=0.6),
    *(GaussianProcess(length_scale=1.5, penalty=0.2, kernel=kernel) for kernel in KERNELS),
    LeastSquares(),
    LeastSquares(intercept=True),
    Ridge(penalty=0.25),
    Ridge(penalty=0.25, covariance=((2.0, 1.0, 0.0), (1.0, 2.0, -0.5), (0.0, -0.5, 1.0))),
    Ridge(penalty=0.25, covariance=(1.0, 0.0, 4.0), intercept=True),
    Ridge(penalty=0.1, intercept=True, per_example=True),
    RecursiveLeastSquares(forgetting=0.8, penalty=0.5),
    PrincipalComponents(k=2),
    GradientDescent(steps=4, rate=0.3),
    GradientDescent(steps=4, rate=0.2, intercept=True),
    GradientDescentPlus(steps=3, rate=0.3, curvature=(0.2, 0.1, 0.0)),
    Momentum(steps=4, rate=0.3, momentum=0.6),
    Nesterov(steps=4, rate=0.3, momentum=0.6),
    ConjugateGradient(steps=2),
    GradientDescent(
        steps=2,
        rate=(0.3, 0.1),
        preconditioner=((1.0, 0.2, 0.0), (0.2, 1.0, 0.0), (0.0, 0.0, 0.5)),
        start=((1.0, 0.0, -1.0), (0.0, 2.0, 0.0)),
    ),
    OnlineDescent(rate=0.1, decay=0.5, passes=2),
    Kaczmarz(passes=2),
    CausalDescent(steps=3, rate=0.4),
    CausalDescent(steps=3, rate=0.4, per_place=True),
    Newton(steps=6),
    NoiseMixture(noises=(0.3, 2.0), weight_std=1.5, probabilities=(1.0, 2.0)),
    FinitePool(weights_of=(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), ((0.0, 0.0, 1.0), (1.0, 1.0, 1.0))), noise=1.5),
    LogisticRegression(penalty=0.1),
]

MASKS: list[Mask] = [
    Prefix(),
    *(Prefix(length) for length in (0, 1, 5, 8, 22, 25)),
    Causal(),
    SelfVisible(Prefix()),
    SelfVisible(Prefix(5)),
    SelfVisible(Causal()),
]

REGRESSION = PLAIN.sample(Seed(0) / "laws", batch=3, points=7, queries=4).prompt
CLASSES = LinearClassification(Gaussian(3), out=2).sample(Seed(0) / "laws", batch=3, points=7, queries=4).prompt
SEQUENCE = Autoregression(4).sample(Seed(0) / "laws", batch=3, points=7).prompt
ENTRIES = Prompt(SEQUENCE.xs, SEQUENCE.ys, (Seed(0) / "queries").normal(3, 4, 4))


def network(architecture: Architecture) -> AttentionNetwork:
    """A float64 network with weights of size 0.3."""
    built = AttentionNetwork(architecture).double()
    initialise(built, Seed(0) / repr(architecture), std=0.3)
    return built


def filled(built: Network) -> Network:
    """The network in float64 with weights of size 0.3, norms and biases included."""
    built = built.double()
    initialise(built, Seed(0) / repr(built.architecture), std=0.3)
    return built


def transformer(**options: object) -> Network:
    return filled(Transformer(TransformerArchitecture(3, 2, width=8, layers=2, **options)))


ATTENTION_NETWORKS: list[AttentionNetwork] = [
    *(network(Architecture(3, 2, layers=2, mask=m)) for m in (Prefix(), Prefix(2), Causal(), SelfVisible(Causal()))),
    *(
        network(Architecture(3, 2, layers=2, heads=2, head_width=head_width, merged=merged, attention=attention))
        for attention, (merged, head_width) in product(("linear", "softmax"), ((True, None), (False, 3)))
    ),
    *(network(Architecture(3, 2, mask=Causal(), normaliser=normaliser)) for normaliser in ("visible", "none")),
    network(Architecture(3, 2, layers=3, shared=True)),
    network(Architecture(3, 2, layers=2, mask=SelfVisible(Causal()), attention="softmax")),
    network(Architecture(4, 4, layers=2, encoding="augmented")),
    network(Architecture(4, 4, layers=2, encoding="carried", mask=Causal())),
]
NETWORKS: list[Network] = [
    *ATTENTION_NETWORKS,
    filled(Decoder(DecoderArchitecture(3, points=9, width=8, layers=2, heads=2, out=2))),
    transformer(),
    transformer(mask=Causal(), shared=True, head_width=3),
    transformer(positions=9, scores="distance", norm="stream"),
    filled(AugmentedStack(AugmentedArchitecture(4, layers=2))),
    filled(PositionedHeads(HeadsArchitecture(4, length=9, heads=2))),
]


def one_step(xs: torch.Tensor, ys: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """One step of gradient descent, as somebody's own function."""
    return queries @ (xs.mT @ ys) / xs.shape[1]


COMBINATIONS: list[Predictor] = [
    Mapped(Ridge(penalty=0.25), factor=-2.0, offset=(0.5, -1.0)),
    Blend((Ridge(penalty=0.25), KernelSmoother(bandwidth=0.7)), {7: (0.75, 0.25)}),
    FromOrigin(Ridge(penalty=0.25)),
    Rounded(Ridge(penalty=0.25), NumberLines(0, 99)),
]
PREDICTORS: list[Predictor] = [*LEARNERS, *NETWORKS, *COMBINATIONS, FunctionPredictor(one_step)]


def prompt_for(predictor: Predictor) -> Prompt:
    """A prompt that fits the example."""
    if isinstance(predictor, LogisticRegression):
        return CLASSES
    sequences = isinstance(predictor, Network) and predictor.prompts == "sequence"
    return ENTRIES if sequences else REGRESSION


def name(predictor: object) -> str:
    """What a test prints for an example: the architecture is all that tells two networks apart."""
    return repr(predictor.architecture if isinstance(predictor, Network) else predictor)


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float | None = None) -> None:
    """Assert equality up to the tolerance of the dtype, or another one."""
    bound = TOLERANCE[actual.dtype] if tolerance is None else tolerance
    torch.testing.assert_close(actual, expected, rtol=bound, atol=bound)


def modules() -> list[str]:
    """The names of all modules of the package."""
    return ["insitu", *(found.name for found in pkgutil.walk_packages(insitu.__path__, "insitu."))]


def load() -> None:
    """Import every module of the package, so that its classes are known to their bases."""
    for module in modules():
        importlib.import_module(module)


def below(base: type) -> set[type]:
    """``base`` and all classes below it, as far as they are the package's."""
    own = {base} if base.__module__.startswith("insitu") else set()
    return own.union(*(below(child) for child in base.__subclasses__()))


def concrete(base: type) -> set[type]:
    """The classes below ``base`` that can be instantiated."""
    return {kind for kind in below(base) if not inspect.isabstract(kind)}
