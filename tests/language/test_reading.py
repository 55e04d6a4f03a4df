"""Reading with what is common read once, against plain forwards of whole prompts."""

import inspect
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.nn.functional import log_softmax

from insitu.errors import InputError
from insitu.language import (
    Answers,
    Reader,
    average,
    calibrated,
    draw_orders,
    load_corpus,
    load_language_model,
    load_template,
    pose,
    read,
)
from insitu.language.models.forwards import cache_name, halving, run
from insitu.seed import Seed

sys.path.insert(0, str(Path(__file__).parent))
from tests.language.small_models import KINDS, TEMPLATE, write_corpus, write_model
from tests.rounding import rounding

# Sums of at most 300 terms, ten after another in each of three layers, of logits below 30.
CLOSE = rounding(terms=300, size=30, steps=30)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    (place / "own.toml").write_text(TEMPLATE)
    write_corpus(place / "data")
    return {kind: write_model(place / kind, kind) for kind in KINDS} | {"place": place}


@pytest.fixture(scope="module", params=KINDS)
def model(request, folders):
    return load_language_model(folders[request.param], dtype="float64")


@pytest.fixture(scope="module")
def template(folders):
    return load_template(folders["place"] / "own.toml")


@pytest.fixture(scope="module")
def corpus(folders):
    return load_corpus(folders["place"] / "data")


def plainly(model, template, shown, text):
    """One whole prompt at a time, every word behind it, as anybody would write it."""
    prompt = template.prompt(text, shown)
    asked = len(model.encode(prompt))
    labels = []
    for _, word in template.words:
        ids = model.encode(f"{prompt} {word}")
        logs = log_softmax(model.network(input_ids=torch.tensor([ids])).logits[0].double(), -1)
        labels.append(sum(logs[i - 1, ids[i]].item() for i in range(asked, len(ids))))
    logits = model.network(input_ids=torch.tensor([ids[:asked]])).logits[0, -1]
    return logits.double().softmax(-1), torch.tensor(labels, dtype=torch.float64)


def test_reading_once_equals_whole_prompts(model, template, corpus):
    reader = Reader(model)
    texts = [row.text for row in corpus.test[:7]]
    shown = corpus.nested(Seed(1), 6)
    for shots in (6, 2, 4, 4):  # after what is longer, after what is shorter, and after the same
        answers = read(model, template, shown[:shots], texts, reader=reader, batch=3)
        assert len(reader.forwards.held) > 10, "nothing was kept"
        for i, text in enumerate(texts):
            tokens, labels = plainly(model, template, shown[:shots], text)
            torch.testing.assert_close(answers.tokens[i], tokens, rtol=0, atol=CLOSE)
            torch.testing.assert_close(answers.labels[i], labels, rtol=0, atol=CLOSE)


def test_answers_do_not_depend_on_what_was_read_before(model, template, corpus):
    """To the last bit, so that a sitting that begins in the middle ends with the same records."""
    texts = [row.text for row in corpus.test[:7]]
    shown = corpus.nested(Seed(1), 6)
    reader = Reader(model)
    for shots in (2, 6, 4, 4):
        fresh = read(model, template, shown[:shots], texts, batch=3)
        after = read(model, template, shown[:shots], texts, reader=reader, batch=3)
        assert torch.equal(after.tokens, fresh.tokens)
        assert torch.equal(after.labels, fresh.labels)


def test_states_of_other_demonstrations_would_be_noticed(model, template, corpus):
    """A saboteur: what was kept of other demonstrations, under the tokens of these."""
    texts = [row.text for row in corpus.test[:3]]
    one, other = corpus.nested(Seed(1), 4), corpus.nested(Seed(2), 6)
    reader, wrong = Reader(model), Reader(model)
    kept, other_kept = reader.forwards, wrong.forwards
    right = read(model, template, one, texts, reader=reader)
    read(model, template, other, texts, reader=wrong)
    other_kept.held = kept.held
    other_kept.states = [tuple(t[:, :, : len(kept.held)] for t in layer) for layer in other_kept.states]
    assert (read(model, template, one, texts, reader=wrong).tokens - right.tokens).abs().max() > 1e-3


def test_a_word_of_several_tokens_counts_with_all_of_them(model, template, corpus):
    questions = pose(model, template, [template.prompt(corpus.test[0].text)])
    assert {len(word) for _, word in questions[0].words} != {1}, "the tokeniser takes no word apart"
    answers = Reader(model).answers(questions)
    first = answers.tokens.log()[0, questions[0].firsts]
    assert (answers.labels[0] < first + 1e-9).all()
    assert (answers.labels[0] < first - 1e-3).any()


def test_prompts_without_a_common_beginning_are_read_whole(model, template):
    questions = pose(model, template, ["joy Kind:", "war and night Kind:"])
    reader = Reader(model)
    reader.answers(questions)
    assert reader.forwards.held == ()


def test_a_prompt_beyond_the_window_is_refused(model, template, corpus):
    with pytest.raises(InputError, match=r"prompt 0 with its label word has \d+ tokens and .* reads at most 256"):
        read(model, template, corpus.train[:20], ["x"])


def test_memory_that_runs_out_halves_the_batch():
    def work(size):
        if size > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return size

    with pytest.warns(RuntimeWarning, match="memory ran out; going on with 4 at a time"):
        assert halving(work, 8) == 4
    with pytest.raises(RuntimeError, match="another"):
        halving(lambda size: (_ for _ in ()).throw(RuntimeError("another error")), 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(MemoryError):
            halving(lambda size: (_ for _ in ()).throw(MemoryError()), 2)


def test_the_mean_over_all_orders_depends_on_none(model, template, corpus):
    shown, texts = corpus.nested(Seed(1), 3), [row.text for row in corpus.test[:2]]
    orders = draw_orders(Seed(0), 3, 6).tolist()
    one = average([read(model, template, [shown[i] for i in order], texts) for order in orders])
    turned = [shown[i] for i in (2, 0, 1)]
    other = average([read(model, template, [turned[i] for i in order], texts) for order in orders])
    torch.testing.assert_close(one.tokens, other.tokens, rtol=0, atol=CLOSE)
    torch.testing.assert_close(one.labels, other.labels, rtol=0, atol=CLOSE)


def test_calibration_divides_by_what_is_said_of_nothing():
    p = torch.tensor([[0.5, 0.2, 0.2, 0.1]], dtype=torch.float64)
    free = torch.tensor([[0.2, 0.6, 0.2, 0.0], [0.4, 0.2, 0.2, 0.2]], dtype=torch.float64)
    first, second = [1, 2], (0.75 + 0.5) / 2  # the share of the first label in both, and their mean
    answers = [Answers(t, t[:, first].log()) for t in (p, free)]
    found = calibrated(*answers, first)
    a, b = 0.2 / second, 0.2 / (1 - second)
    expected = torch.tensor([[0.5, 0.4 * a / (a + b), 0.4 * b / (a + b), 0.1]], dtype=torch.float64)
    torch.testing.assert_close(found.tokens, expected)
    torch.testing.assert_close(found.labels, expected[:, first].log())


def test_what_a_tokeniser_appends_is_left_out(folders):
    from tokenizers.processors import TemplateProcessing

    plain = load_language_model(folders["gpt2"])
    for start, end in (([], [7]), ([5], [7, 7]), ([5], [])):
        model = load_language_model(folders["gpt2"])
        names = {5: "<5>", 7: "<7>"}
        form = " ".join([*(names[t] for t in start), "$A", *(names[t] for t in end)])
        special = [(names[t], t) for t in {*start, *end}]
        model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=form, special_tokens=special)
        assert model.ending == end
        for text in ("joy", "war and night Kind:", ""):
            assert model.encode(text) == start + plain.encode(text)


def test_tokens_that_the_tokeniser_does_not_know_have_a_number(model):
    assert model.word(len(model.tokenizer) + 3) == f"<{len(model.tokenizer) + 3}>"


def test_the_window_is_what_the_table_of_positions_holds():
    from tests.language import architectures

    windows = {name: architectures.model(name).window for name in ("roberta", "opt", "mpt", "gemma3 nested", "gpt2")}
    assert set(windows.values()) == {96}
    assert architectures.model("mamba").window == 2**31


@pytest.mark.parametrize("unembeds", ["at once", "in its own way"])
def test_logits_at_places_of_every_row(model, monkeypatch, unembeds):
    """Only the states at these places are unembedded, where the network's unembedding is there to be asked."""
    ids, kept = (Seed(4) / "ids").integers(50, 3, 9), torch.tensor([[0, 4], [8, 8], [2, 1]])
    whole = model.network(input_ids=ids).logits
    unembedding, reached = model.network.get_output_embeddings(), []
    if unembeds == "in its own way":
        monkeypatch.setattr(model.network, "get_output_embeddings", lambda: None)
    handle = unembedding.register_forward_hook(lambda module, inputs, output: reached.append(output.shape[:2]))
    try:
        found, _ = run(model.network, ids, kept)
        for_all, _ = run(model.network, ids, kept[0])
    finally:
        handle.remove()
    torch.testing.assert_close(
        found, torch.stack([whole[row, own] for row, own in enumerate(kept)]), rtol=0, atol=CLOSE
    )
    torch.testing.assert_close(for_all, whole[:, kept[0]], rtol=0, atol=CLOSE)
    assert reached == [(3, 2 if unembeds == "at once" else 9)] * 2
    assert (found[1] - for_all[1]).abs().max() > 0.01, "a saboteur that takes the first row's places is told apart"


def test_what_was_read_is_given_back_by_the_word_of_the_installed_transformers(folders):
    """Version 5.24 calls it otherwise: the old word was left out, and with it the reuse of what prompts share."""
    network = load_language_model(str(folders[KINDS[0]])).network
    assert cache_name(network) in inspect.signature(network.forward).parameters

    class Newer:
        def forward(self, input_ids, cache=None):
            raise NotImplementedError

    class Older:
        def forward(self, input_ids, past_key_values=None):
            raise NotImplementedError

    assert [cache_name(kind()) for kind in (Newer, Older)] == ["cache", "past_key_values"]
