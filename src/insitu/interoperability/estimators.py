"""Predictors as scikit-learn's estimators: ``fit`` stores the context, ``predict`` answers queries from it.

Nothing is trained: the examples given to ``fit`` are the prompt. Needs the extra ``scikit-learn``.
"""

import abc
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from insitu.errors import require_package
from insitu.front_door import load
from insitu.predictor import Predictor, as_predictor
from insitu.prompt import Prompt

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    require_package("insitu.interoperability.estimators", "sklearn", "scikit-learn")
    raise

__all__ = ["InContextClassifier", "InContextEstimator", "InContextRegressor"]


class InContextEstimator(BaseEstimator, abc.ABC):
    """What regressor and classifier share.

    Args:
        predictor: A predictor, a function ``(xs, ys, queries) -> answers``, or a name that :func:`insitu.load`
            understands, such as ``"Ridge(penalty=0.25)"`` or the folder of a stored network.
    """

    def __init__(self, predictor: Any = "LeastSquares()") -> None:
        # As scikit-learn's conventions ask: stored as it came, looked at by fit.
        self.predictor = predictor

    def resolved(self) -> Predictor:
        """The predictor that the parameter names."""
        named = isinstance(self.predictor, str | Path)
        return as_predictor(load(self.predictor) if named else self.predictor)

    def remember(self, xs: np.ndarray, ys: np.ndarray) -> None:
        """Keep the context: inputs ``(point, dim)`` and labels ``(point, out)``."""
        self.predictor_ = self.resolved()
        self.context_ = as_batch(xs), as_batch(ys)

    def answers(self, X: Any) -> np.ndarray:
        """The answers to queries ``(query, dim)`` from the stored context: ``(query, out)``."""
        check_is_fitted(self)
        queries = validate_data(self, X, reset=False, dtype=np.float64)
        with torch.no_grad():
            return self.predictor_.predict(Prompt(*self.context_, as_batch(queries)))[0].numpy()

    @abc.abstractmethod
    def fit(self, X: Any, y: Any) -> "InContextEstimator":
        """Store examples as the context."""

    @abc.abstractmethod
    def predict(self, X: Any) -> np.ndarray:
        """What the predictor answers to queries."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def as_batch(array: np.ndarray) -> torch.Tensor:
    """A batch of one; an array may be a view from behind, such as ``xs[::-1]``, whose strides torch does not take."""
    return torch.tensor(np.asarray(array, dtype=np.float64, order="C"))[None]


@final
class InContextRegressor(RegressorMixin, InContextEstimator):
    """A predictor of numbers, one or several outputs, as a scikit-learn regressor.

    Args:
        predictor: See :class:`InContextEstimator`.

    Example:
        >>> X, y = [[0.0], [1.0], [2.0]], [0.0, 2.0, 4.0]
        >>> InContextRegressor("LeastSquares()").fit(X, y).predict([[3.0]])
        array([6.])
    """

    def fit(self, X: Any, y: Any) -> "InContextRegressor":
        """Store examples ``(point, dim)`` with labels ``(point,)`` or ``(point, out)`` as the context."""
        xs, ys = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        self.single_ = ys.ndim == 1
        self.remember(xs, ys.reshape(len(ys), -1))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The answers to queries ``(query, dim)``, in the shape of the labels."""
        answers = self.answers(X)
        return answers[:, 0] if self.single_ else answers

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        # Zero() is a predictor, too.
        tags.regressor_tags.poor_score = True
        return tags


@final
class InContextClassifier(ClassifierMixin, InContextEstimator):
    """A predictor of one-hot rows as a scikit-learn classifier: the class with the largest answer.

    Args:
        predictor: See :class:`InContextEstimator`.

    Example:
        >>> X, y = [[0.0], [1.0], [4.0], [5.0]], ["low", "low", "high", "high"]
        >>> InContextClassifier("NearestNeighbours(k=1)").fit(X, y).predict([[0.4], [4.4]])
        array(['low', 'high'], dtype='<U4')
    """

    def fit(self, X: Any, y: Any) -> "InContextClassifier":
        """Store examples ``(point, dim)`` with classes ``(point,)`` as the context."""
        xs, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        self.classes_, places = np.unique(labels, return_inverse=True)
        # Learners of probabilities need at least two columns.
        self.remember(xs, np.eye(max(2, len(self.classes_)))[places])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The classes of queries ``(query, dim)``."""
        answers = self.answers(X)
        return self.classes_[answers[:, : len(self.classes_)].argmax(axis=1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True
        return tags
