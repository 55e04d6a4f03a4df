"""A network of this package and SmolLM2 in nnsight: states are read, and a layer's attention is taken out.

pip install nnsight, then python docs/with_nnsight.py
"""

from nnsight import LanguageModel, NNsight

import insitu
from insitu import Seed
from insitu.models import Architecture, AttentionNetwork, initialise
from insitu.tasks import Gaussian, LinearRegression

TEXT = "Review: a joy.\nSentiment: positive\n\nReview: dull.\nSentiment:"


def small_network() -> None:
    """The states after the first layer of a network on prompts of a task."""
    network = AttentionNetwork(Architecture(dim=3, out=1, layers=2)).double()
    initialise(network, Seed(0), std=0.3)
    lesson = network.lesson(LinearRegression(Gaussian(3)).sample(Seed(1), 2, 6, 1))
    view = NNsight(network)
    with view.trace(*lesson.inputs, **lesson.fixed):
        states = view.layers[0].output.save()
    print(f"states after the first layer: {tuple(states.shape)}")


def language_model() -> None:
    """The change of the logits where layer 3 attends to nothing."""
    model = insitu.load("smollm2")
    view = LanguageModel(model.network, tokenizer=model.tokenizer)
    with view.trace(TEXT):
        logits = view.output.logits.save()
    with view.trace(TEXT):
        view.model.layers[3].self_attn.output[0][:] = 0
        without = view.output.logits.save()
    print(f"largest change of a logit without the attention of layer 3: {(logits - without).abs().max():.3g}")


if __name__ == "__main__":
    small_network()
    language_model()
