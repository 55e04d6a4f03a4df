"""What a model's self-test chose is in the record and on the page."""

import pytest
import torch
from tests.language.architectures import network
from tests.language.small_models import TEMPLATE, tokenizer, write_corpus

from insitu import InputError, Seed
from insitu.language import Descent, LanguageModel, load_corpus, load_template, require_trainable
from insitu.language.measure.bench import set_up
from insitu.language.measure.compare import Comparison, compare
from insitu.language.measure.order import Orders, order_sensitivity
from insitu.report.compare_page import compare_page
from insitu.report.lm_pages import order_page
from insitu.report.lm_records import fallback_of

APART = "every label word in a sequence of its own"


@pytest.fixture(scope="module")
def benches(tmp_path_factory):
    """Questions of a windowed model and of one without a window, whose words are several tokens."""
    folder = tmp_path_factory.mktemp("fallbacks")
    (folder / "own.toml").write_text(TEMPLATE)
    corpus, template = load_corpus(write_corpus(folder / "data")), load_template(folder / "own.toml")
    words = tokenizer("the film plot actor Text: Kind: joy")
    sizes = {"vocab_size": len(words), "max_position_embeddings": 256}
    windows = {"mistral": {"sliding_window": 40}, "llama": {}}
    built = {name: LanguageModel(name, network(name, **sizes, **own), words) for name, own in windows.items()}
    return {
        name: set_up(one, corpus, template, Seed(0), shots=2, items=3, longest=12, shorten=True)
        for name, one in built.items()
    }


@pytest.mark.parametrize(("name", "fallback"), [("mistral", APART), ("llama", "")])
def test_records_and_pages_name_the_fallback(benches, name, fallback, tmp_path):
    records = [record for *_, record in compare(benches[name], Comparison((2,), 2, 1, (), (1,)))]
    assert {record["fallback"] for record in records} == {fallback}
    page = compare_page(records, tmp_path).read_text()
    ordered = [record for *_, record in order_sensitivity(benches[name], Orders(2, 1, 2, (), (1,)))]
    told = order_page(ordered, tmp_path).read_text()
    for text in (page, told):
        assert (f"its self-test chose {APART}." in text) == bool(fallback)
    assert len(fallback_of(records)) == len(fallback_of(ordered)) == bool(fallback)


def test_half_precision_reads_and_names_the_way_to_read_alone(benches):
    bench = benches["llama"]
    half = LanguageModel("half", network("llama", vocab_size=300).to(torch.bfloat16), bench.model.tokenizer)
    with pytest.raises(InputError, match=r"Load it in float32, or compare readings alone \(--optimisers none\)"):
        require_trainable(half, Descent(1e-3))
