"""Predictors as scikit-learn's estimators: its own checks pass, and answers are those of the predictor."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.linear_model import Ridge as ReferenceRidge
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator
from tests.examples import LEARNERS

from insitu import InputError, Prompt, Seed
from insitu.interoperability.estimators import InContextClassifier, InContextEstimator, InContextRegressor
from insitu.learners import FinitePool, GradientDescent, Learner, LogisticRegression, Ridge, Zero
from insitu.models import Architecture, AttentionNetwork, initialise, save_network

X = (Seed(0) / "inputs").normal(12, 3).numpy()
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.1 * (Seed(0) / "noise").normal(12).numpy()


def takes_any_size(learner: Learner) -> bool:
    """Whether it answers prompts of any dimension: checks use several."""
    prompt = Prompt(torch.ones(1, 4, 5), torch.eye(2).repeat(2, 1)[None], torch.ones(1, 2, 5))
    try:
        learner.predict(prompt)
    except InputError:
        return False
    return True


ANY_SIZE = [learner for learner in LEARNERS if takes_any_size(learner)]


def test_only_learners_with_matrices_of_their_own_have_a_size():
    assert {type(learner) for learner in LEARNERS if learner not in ANY_SIZE} == {Ridge, GradientDescent, FinitePool}


@pytest.fixture
def _checks_may_draw() -> Iterator[None]:
    """The checks, not the estimator, draw from NumPy's global generator; put back as it was."""
    before = np.random.get_state()  # noqa: NPY002
    yield
    np.random.set_state(before)  # noqa: NPY002


@pytest.mark.usefixtures("_checks_may_draw")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [InContextRegressor, InContextClassifier], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("learner", ANY_SIZE, ids=repr)
def test_scikit_learn_checks_pass(learner, kind):
    if kind is InContextRegressor and isinstance(learner, LogisticRegression):
        pytest.skip("answers class probabilities only")
    check_estimator(kind(learner), on_skip=None)


class Forgetful(InContextEstimator):
    """Saboteur: an estimator that answers from nothing and changes with every call."""

    def fit(self, X, y):
        self.calls_ = 0
        return self

    def predict(self, X):
        self.calls_ += 1
        return np.full(len(X), float(self.calls_))


@pytest.mark.usefixtures("_checks_may_draw")
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks_can_fail():
    with pytest.raises(AssertionError):
        check_estimator(Forgetful(), on_skip=None)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("LeastSquares(intercept=True)", LinearRegression()),
        ("Ridge(penalty=0.25)", ReferenceRidge(alpha=0.25, fit_intercept=False)),
    ],
)
def test_answers_are_those_of_scikit_learns_own(name, reference):
    queries = X[:5] + 1
    mine = InContextRegressor(name).fit(X, Y)
    np.testing.assert_allclose(mine.predict(queries), reference.fit(X, Y).predict(queries), rtol=1e-9)
    assert mine.score(X, Y) == pytest.approx(reference.score(X, Y))


@pytest.mark.parametrize("learner", [learner for learner in LEARNERS if learner not in ANY_SIZE], ids=repr)
def test_a_learner_with_matrices_of_its_own_answers_as_itself(learner):
    """Those that the checks of scikit-learn leave out, query by query."""
    labels = np.stack([Y, X[:, 0] - X[:, 2]], axis=1)
    xs, ys = torch.tensor(X)[None], torch.tensor(labels)[None]
    alone = np.stack([learner.predict(Prompt(xs, ys, x[None, None]))[0, 0].numpy() for x in xs[0]])
    np.testing.assert_allclose(InContextRegressor(learner).fit(X, labels).predict(X), alone, rtol=1e-9, atol=1e-12)
    assert not np.allclose(InContextRegressor(learner).fit(X[::-1], labels).predict(X), alone)


def test_a_stored_network_answers_from_the_context(tmp_path):
    network = AttentionNetwork(Architecture(dim=3, out=1, layers=2)).double()
    initialise(network, Seed(1), std=0.3)
    save_network(network, tmp_path)
    one_by_one = torch.stack(
        [
            network.predict(Prompt(torch.tensor(X)[None], torch.tensor(Y)[None, :, None], torch.tensor(x)[None, None]))
            for x in X
        ]
    )
    stored = InContextRegressor(str(tmp_path)).fit(X, Y)
    np.testing.assert_allclose(stored.predict(X), one_by_one.detach().numpy().ravel(), rtol=1e-9)
    with pytest.raises(InputError, match="dim"):
        InContextRegressor(str(tmp_path)).fit(X[:, :2], Y).predict(X[:, :2])


def test_the_penalty_is_chosen_by_cross_validation():
    choices = [Zero(), "Ridge(penalty=1000.0)", "Ridge(penalty=0.01)"]
    search = GridSearchCV(InContextRegressor(), {"predictor": choices}, cv=3).fit(X, Y)
    assert search.best_params_ == {"predictor": "Ridge(penalty=0.01)"}


def test_classes_are_named_as_they_came():
    labels = np.where(Y > 0, "up", "down")
    assert (InContextClassifier("NearestNeighbours(k=1)").fit(X, labels).predict(X) == labels).all()


def test_a_name_of_nothing_is_refused():
    with pytest.raises(InputError, match="Rigde"):
        InContextRegressor("Rigde(penalty=1)").fit(X, Y)
