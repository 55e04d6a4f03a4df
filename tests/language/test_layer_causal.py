"""Layer-causal descent: each layer's gradient is that of the network which ends behind it."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from insitu import Seed
from insitu.errors import InputError
from insitu.language import LanguageModel
from insitu.language.measure import layer_causal
from insitu.language.measure.layer_causal import layer_causal_gradients
from insitu.language.models.fine_tuning import Lessons

LAYERS = 3
SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "tie_word_embeddings": False,
}
OWN = {"llama": {}, "gpt2": {"n_embd": 16, "n_layer": LAYERS, "n_head": 2, "n_positions": 32}, "gpt_neox": {}}
LESSONS = Lessons.of([([3, 17, 8, 41, 22], 4), ([9, 30, 12, 6, 7, 44, 2], 5)], 1)
LESSONS = Lessons(LESSONS.ids, LESSONS.answers.double())


def built(kind):
    config = AutoConfig.for_model(kind, **{**SIZES, **OWN[kind], "pad_token_id": 0}, attn_implementation="eager")
    with torch.random.fork_rng():
        network = AutoModelForCausalLM.from_config(config).double().eval().requires_grad_(False)
    for name, weight in network.named_parameters():
        if weight.ndim > 1:
            weight.copy_(0.4 * (Seed(0) / name).normal(*weight.shape))
    return LanguageModel(kind, network, None)


def layers_of(network):
    decoder = network.base_model
    return decoder.h if hasattr(decoder, "h") else decoder.layers


def shorter(model, depth):
    """The loss of the same network with the first layers alone, by a plain forward pass, and its gradients."""
    network, layers = model.network, layers_of(model.network)
    dropped = list(layers[depth:])
    del layers[depth:]
    try:
        with torch.enable_grad():
            own = {name: w.requires_grad_(True) for name, w in network.named_parameters()}
            logs = network(input_ids=LESSONS.ids[0], use_cache=False).logits.log_softmax(-1)
            loss = -(logs[0, 3, 22] + logs[1, 4, 44] + logs[1, 5, 2]) / 2
            found = torch.autograd.grad(loss, list(own.values()))
        return dict(zip(own, found, strict=True))
    finally:
        network.requires_grad_(False)
        layers.extend(dropped)


def names_of(model, layer):
    return [name for name, _ in model.network.named_parameters() if f".{layer}." in name]


@pytest.fixture(scope="module", params=OWN)
def model(request):
    return built(request.param)


def deviation(model):
    """The largest deviation of any layer's gradient from that of the network that ends behind it."""
    trained = [name for layer in range(LAYERS) for name in names_of(model, layer)]
    found = layer_causal_gradients(model, LESSONS, trained)
    pairs = []
    for layer in range(LAYERS):
        expected = shorter(model, layer + 1)
        pairs += [(found[name] - expected[name]).abs().max() for name in names_of(model, layer)]
    return torch.stack(pairs).max().item()


def test_the_gradient_of_a_layer_is_that_of_the_network_that_ends_there(model):
    # float64; sums over 50 tokens, 24 inner entries and three layers.
    assert deviation(model) < 1e-11


def test_gradients_that_pass_between_layers_are_noticed(model, monkeypatch):
    monkeypatch.setattr(layer_causal, "cut_off", lambda state: state)
    assert deviation(model) > 1e-3


def test_a_cut_that_changes_nothing_is_refused(model):
    with pytest.raises(InputError, match="no gradient comes out of layer 0 of"):
        layer_causal_gradients(model, LESSONS, names_of(model, LAYERS - 1))


def test_a_network_that_reads_out_otherwise_is_refused(monkeypatch):
    model = built("llama")
    monkeypatch.setattr(layer_causal, "read_out", lambda model: model.network.get_output_embeddings())
    with pytest.raises(InputError, match="llama reads out its last states in a way not known here"):
        layer_causal_gradients(model, LESSONS, names_of(model, 0) + names_of(model, 1) + names_of(model, 2))


def test_a_network_without_layers_or_a_known_norm_is_refused():
    model = built("llama")
    del model.network.model.norm
    with pytest.raises(InputError, match="none of the norms norm, ln_f, final_layer_norm"):
        layer_causal_gradients(model, LESSONS, names_of(model, 0))
    empty = LanguageModel("empty", torch.nn.Identity(), None)
    with pytest.raises(InputError, match="no layers are found in empty"), layer_causal.separate_layers(empty):
        pass
