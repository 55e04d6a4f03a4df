"""The one interface that networks, learners and hand-built networks share."""

import abc

from jaxtyping import Float
from torch import Tensor

from insitu.prompt import Prompt

__all__ = ["Predictor"]


class Predictor(abc.ABC):
    """Maps a prompt to answers.

    A trained network, a textbook learner, a network with weights set by hand and a language model are all
    predictors, so everything that compares, probes or plots takes any of them.
    """

    @abc.abstractmethod
    def predict(self, prompt: Prompt) -> Float[Tensor, "batch query out"]:
        """Answer every query from the whole context.

        An answer depends on the prompt's examples and on its own query alone: not on other queries, not on
        other prompts of the batch. It has the prompt's dtype and device.
        """
