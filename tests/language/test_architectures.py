"""Laws of reading and training over small random models of many architectures, against plain forward passes.

The second road is ``plainly``: one whole sequence after the other through the network, in float64. Windows, chunks and
switches of the models lie below the lengths that are read here.
"""

import dataclasses
import functools
import itertools

import pytest
import torch
from tests.language.architectures import SETTINGS, STORED, VOCABULARY, Numbers, in_float64, model, network, plainly
from tests.language.small_models import tokenizer
from tests.rounding import rounding
from torch.nn.functional import cross_entropy

from insitu import InputError, Seed
from insitu.language import (
    FAST,
    WHOLE,
    Descent,
    Labelled,
    LanguageModel,
    Question,
    Reader,
    SelfTest,
    Shortcuts,
    Template,
    fine_tune_together,
    load_language_model,
    next_token_distributions,
    prefix_attention,
    self_test,
)
from insitu.language.models import forwards, submodels
from insitu.language.models.hidden_states import AttentionStates, attention_states, similarities
from insitu.language.models.submodels import HeadCounts, attention_parts, parts_of
from insitu.language.models.untrained import without_training

every_architecture = pytest.mark.parametrize("name", SETTINGS)
# Architectures whose layers do more than full attention with positions that are given.
SLOWER = {
    "gpt_neo",
    "roberta",
    "qwen2",
    "gemma2",
    "gemma3",
    "gemma3 nested",
    "mistral",
    "mistral wide",
    "phi3",
    "cohere2",
    "bloom",
    "falcon alibi",
    "mpt",
    "gpt_oss",
    "llama4",
    "modernbert",
    "mamba",
    "rwkv",
    "lfm2",
    "jamba",
    "openai-gpt",
}
# Those whose answers no mask reaches: the last two have one layer of attention, behind which nothing is mixed.
UNMASKED = {"gpt_neo", "mamba", "rwkv", "openai-gpt", "lfm2", "jamba"}
# The fifth begins as the fourth.
WORDS = (("one", (5,)), ("two", (6, 7)), ("three", (5, 8, 9)), ("four", (10, 11, 12, 13)), ("five", (10, 11, 7)))


def tokens(count, name="ids"):
    return tuple((3 + (Seed(0) / name).integers(VOCABULARY - 4, count)).tolist())


def asked(stem, sizes):
    """Questions that begin with the same tokens and end in so many of their own."""
    return [Question((*stem, *tokens(size, f"{len(stem)}-{size}")), WORDS) for size in sizes]


STEM = tokens(50)
# One after the other: few demonstrations, more of them, which also pass a length at which a model may switch, fewer
# again, none, and up to the last position of the window.
ENDS = (
    (STEM[:20], (2, 5)),
    (STEM[:36], (9, 12)),
    (STEM, (3, 9)),
    (STEM[:12], (1, 4)),
    ((), (4, 17, 39)),
    (STEM, (43, 40)),
)
ROUNDS = [asked(stem, sizes) for stem, sizes in ENDS]


@functools.cache
def exact(name, dtype):
    """A copy in float64 of the weights in a precision."""
    return in_float64(model(name, dtype).network)


@functools.cache
def expected(name, question, dtype=torch.float32):
    """The plain answer to a question, in float64."""
    return plainly(exact(name, dtype), question.prompt, [word for _, word in WORDS])


def furthest(name, dtype, rounds=ROUNDS):
    """The largest difference of a log-probability, relative to the largest of them."""
    reader, gap = Reader(model(name, dtype)), 0.0
    for questions in rounds:
        answers = reader.answers(questions, batch=2)
        for said, words, question in zip(answers.tokens.log(), answers.labels, questions, strict=True):
            right = torch.cat(expected(name, question, dtype))
            gap = max(gap, ((torch.cat([said, words]) - right).abs().max() / right.abs().max()).item())
    return gap


@every_architecture
@torch.no_grad()
def test_answers_are_those_of_plain_forwards(name):
    assert max(q.length for q in itertools.chain(*ROUNDS)) == 96, "the last position of the window"
    # A hundred times the rounding of float32.
    assert furthest(name, torch.float32) < 100 * torch.finfo(torch.float32).eps


@every_architecture
@torch.no_grad()
def test_in_bfloat16_answers_are_as_near_as_its_rounding_lets_them(name):
    words = [word for _, word in WORDS]
    rounding = 0.0
    for question in ROUNDS[1]:
        right = torch.cat(expected(name, question, torch.bfloat16))
        said = torch.cat(plainly(model(name, torch.bfloat16).network, question.prompt, words))
        rounding = max(rounding, ((said - right).abs().max() / right.abs().max()).item())
    assert furthest(name, torch.bfloat16, ROUNDS[1:2]) < 2 * rounding


def test_short_cuts_are_taken_where_they_are_exact_and_nowhere_else():
    found = {name: self_test(model(name)).shortcuts(96) for name in SETTINGS}
    assert {name for name, shortcuts in found.items() if shortcuts != FAST} == SLOWER
    assert {name for name, shortcuts in found.items() if not shortcuts.padding} == {"phi3"}
    assert self_test(model("phi3")).shortcuts(39) == FAST, "below the switch of its factors"
    assert self_test(model("mistral wide")).shortcuts(45) == FAST, "inside its window"
    assert self_test(model("mistral")).fallback([24, 96]) == "every label word in a sequence of its own"
    assert self_test(model("llama")).fallback([24, 96]) == ""


@pytest.mark.parametrize("name", ["mistral", "phi3", "mamba", "mpt", "roberta"])
@torch.no_grad()
def test_the_short_cuts_that_are_left_out_would_be_wrong(name):
    """The saboteur: the same questions with what the self-test forbids."""
    forbidden = dataclasses.asdict(self_test(model(name)).shortcuts(96))
    for flag in (flag for flag, allowed in forbidden.items() if not allowed):
        reader, gap = Reader(model(name), shortcuts=Shortcuts(**{flag: True})), 0.0
        try:
            for questions in ROUNDS:
                answers = reader.answers(questions, batch=8)
                gap = max(
                    gap,
                    max(
                        (labels - expected(name, q)[1]).abs().max().item()
                        for labels, q in zip(answers.labels, questions, strict=True)
                    ),
                )
        except Exception:
            continue
        assert gap > 1e-2, flag


MUTATIONS = {
    "branches": (
        "branch_mask",
        lambda asked, common, size: (SEEN(asked, common, size)[0] | True, SEEN(asked, common, size)[1]),
    ),
    "positions": (
        "branch_mask",
        lambda asked, common, size: (SEEN(asked, common, size)[0], SEEN(asked, common, size)[1] * 0),
    ),
    "counted on": (
        "branch_mask",
        lambda asked, common, size: (
            SEEN(asked, common, size)[0],
            (torch.arange(size) + common).repeat(len(asked), 1),
        ),
    ),
}
SEEN = forwards.branch_mask


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "mixtral"])
def test_a_wrong_mask_or_wrong_positions_are_caught(name, mutation, monkeypatch):
    monkeypatch.setattr(forwards, *MUTATIONS[mutation])
    assert SelfTest(model(name)).shortcuts(20) == Shortcuts(branches=False, reuse=True, padding=True)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "mistral"])
@pytest.mark.parametrize("shift", [1, -1])
def test_a_wrong_cache_is_caught(name, shift, monkeypatch):
    plainly_past = forwards.Forwards._past

    def shifted(self, common, rows):
        past = plainly_past(self, common, rows)
        for layer in past["past_key_values"].layers if past else ():
            layer.keys = layer.keys.roll(shift, dims=2)
        return past

    monkeypatch.setattr(forwards.Forwards, "_past", shifted)
    assert not SelfTest(model(name)).shortcuts(20).reuse


def test_a_wrong_place_in_padded_rows_is_caught(monkeypatch):
    read = forwards.Forwards._read

    def from_the_end(self, common, asked):
        widest = max(len(b.prompt) + len(b.tail) for b in asked)
        return [
            logs.roll(1, 0) if len(b.prompt) + len(b.tail) < widest else logs
            for b, logs in zip(asked, read(self, common, asked), strict=True)
        ]

    monkeypatch.setattr(forwards.Forwards, "_read", from_the_end)
    assert not SelfTest(model("llama")).shortcuts(20).padding


@every_architecture
def test_the_self_test_is_a_few_forward_passes(name, monkeypatch):
    """Its cost, counted: a network of a million weights takes two or three milliseconds for each."""
    one, calls = model(name), []
    handle = one.network.register_forward_hook(lambda *_: calls.append(None))
    shortcuts = SelfTest(one).shortcuts(20)
    handle.remove()
    assert len(calls) <= (22 if shortcuts == FAST else 60)


# The prefix mask


def who_sees_whom(one, prefix=None, size=14):
    """In a network of one layer: whether what is said at a row moves with the token of a column."""
    ids = torch.tensor([tokens(size)])
    changed = ids.repeat(size, 1)
    changed[torch.arange(size), torch.arange(size)] = 3 + (ids[0] - 2) % (VOCABULARY - 4)
    both = torch.cat([ids, changed])
    if prefix is None:
        logits = one(input_ids=both).logits
    else:
        with prefix_attention(one, torch.full((size + 1,), prefix)):
            logits = one(input_ids=both).logits
    # In float64 rounding is some 1e-13 of answers of size ten to a hundred, whatever the products of this machine.
    return (logits[1:] - logits[0]).abs().amax(-1).T > 1e-8


SINGLE = {
    name: next(key for key in ("num_hidden_layers", "n_layer", "n_layers") if key in settings)
    for name, (_, settings) in SETTINGS.items()
    if not {"layer_types", "text_config", "num_layers", "attn_layer_period"} & settings.keys() and name not in UNMASKED
}


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("name", SINGLE)
@torch.no_grad()
def test_a_prefix_is_seen_both_ways_as_far_as_the_network_looks_back(name, kernel):
    one = in_float64(network(name, **{SINGLE[name]: 1}))
    try:
        one.set_attn_implementation(kernel)
    except ValueError:
        pytest.skip(f"{name} has no kernel {kernel}")
    own = who_sees_whom(one)
    assert not own.triu(1).any()
    for prefix in (0, 5, 14):
        inside = torch.arange(14) < prefix
        assert torch.equal(who_sees_whom(one, prefix), own | (inside[:, None] & inside & own.T)), prefix


@every_architecture
@torch.no_grad()
def test_a_prefix_of_length_zero_is_causal_attention_and_a_mask_that_does_nothing_is_refused(name):
    one = model(name)
    questions = ROUNDS[1]
    nothing = torch.zeros(len(questions), dtype=torch.long)
    if name in UNMASKED:
        with pytest.raises(InputError, match="the mask changes no answer; its layers do not look at it"):
            Reader(one).answers(questions, prefix=nothing)
        return
    causal, zero, full = (Reader(one).answers(questions, prefix=prefix) for prefix in (None, nothing, nothing + 50))
    torch.testing.assert_close(zero.tokens, causal.tokens, rtol=0, atol=1e-5)
    torch.testing.assert_close(zero.labels, causal.labels, rtol=0, atol=1e-4)
    assert (full.labels - causal.labels).abs().max() > 1e-3


def test_a_mask_that_replaces_the_window_would_be_caught(monkeypatch):
    """The saboteur: the usual prefix mask in place of the mirrored one."""
    from insitu.language.models import prefix_mask

    def usual(own, lengths):
        return lambda row, head, query, key: (key <= query) | ((query < lengths[row]) & (key < lengths[row]))

    monkeypatch.setattr(prefix_mask, "both_ways", usual)
    with pytest.raises(InputError, match="with no demonstration at all its answers already differ from causal ones"):
        SelfTest(model("mistral")).require_prefix(20)


# Queries, keys and values

# Sinks let even a first token's query matter.
ATTENDING = sorted((SETTINGS | STORED).keys() - {"mamba", "rwkv", "gpt_oss"})


def slopes_of_last_layer(one, modules):
    """For two tokens: how what is said at one (first axis) moves with what modules put out at another (second)."""
    held = {}

    def keep(name):
        def hook(module, inputs, output):
            held[name] = output.detach().requires_grad_(True)
            return held[name]

        return hook

    handles = [one.get_submodule(name).register_forward_hook(keep(name)) for name in modules]
    logits = one(input_ids=torch.tensor([[7, 9]])).logits[0]
    for handle in handles:
        handle.remove()
    weights = (Seed(0) / "projection").normal(*logits.shape).to(logits)
    by_token = [torch.autograd.grad((logits[t] * weights[t]).sum(), held.values(), retain_graph=True) for t in (0, 1)]
    return {name: torch.stack([g[i].view(2, -1) for g in by_token]) for i, name in enumerate(held)}


@pytest.mark.parametrize("name", ATTENDING)
def test_queries_keys_and_values_are_found_by_what_they_do(name):
    """What is said at a lone token moves with its value alone, later on with earlier keys too; queries act at home."""
    one = in_float64(network(name))
    shapes = {key: tuple(weight.shape) for key, weight in one.named_parameters()}
    parts = [part for part in parts_of(shapes, lambda: one.config) if part.name.endswith("weight")]
    last = [part for part in parts if part.layer == max(p.layer for p in parts)]
    assert [part.kind for part in last] == ["query", "key", "value"]
    moved = slopes_of_last_layer(one, dict.fromkeys(part.name.removesuffix(".weight") for part in last))
    for part in last:
        here, earlier, later = (
            dataclasses.replace(part, axis=0).of(moved[part.name.removesuffix(".weight")][t, s]).abs() > 1e-9
            for t, s in ((0, 0), (1, 0), (1, 1))
        )
        assert later.double().mean() > 0.7, part
        assert (earlier.double().mean() > 0.7) if part.kind != "query" else not earlier.any(), part
        assert (here.double().mean() > 0.7) if part.kind == "value" else not here.any(), part
    sizes = [part.of(dict(one.named_parameters())[part.name]).numel() for part in last]
    assert sizes[1] == sizes[2]


def test_a_wrong_layout_would_be_caught(monkeypatch):
    """The saboteur: groups of GPT-BigCode taken for thirds."""
    monkeypatch.setattr(submodels, "layout", lambda *_: (1, ("value", "key", "query")))
    with pytest.raises(AssertionError):
        test_queries_keys_and_values_are_found_by_what_they_do("gpt_bigcode")


def test_a_weight_whose_size_says_nothing_is_refused():
    with pytest.raises(InputError, match=r"shape \(40, 16\) does not hold queries, keys and values of 2 heads of 8"):
        attention_parts({"transformer.h.0.attn.c_attn.weight": (40, 16)}, HeadCounts(2, 8, 16))


# Hidden states


@pytest.mark.parametrize(
    "name",
    ["llama", "gpt2", "mistral", "gemma2", "gpt_oss", "llama4", "gpt_neo", "bloom", "mpt", "modernbert", "jamba"],
)
@torch.no_grad()
def test_scores_are_those_behind_the_attention_that_the_network_shows(name):
    """Differences of scores are log-ratios of probabilities; sinks are no tokens, and hidden tokens have no score."""
    one, question = model(name), Question(tokens(30), WORDS)
    (scores,) = attention_states(one, [question], [Question(question.prompt[-14:], WORDS)]).scores
    bare = in_float64(one.network)
    bare.set_attn_implementation("eager")
    shown = bare(input_ids=torch.tensor([question.prompt]), output_attentions=True).attentions
    shares = torch.cat([layer[0, :, -1, :30] for layer in shown if layer is not None])[:, -14:].double()
    assert scores.shape == shares.shape
    assert torch.equal(scores.isinf(), shares == 0)
    for own, share in zip(scores, shares, strict=True):
        seen = share > 0
        torch.testing.assert_close(own[seen] - own[seen][0], (share[seen] / share[seen][0]).log(), rtol=0, atol=1e-4)


def test_hidden_tokens_do_not_count_in_similarities():
    far = torch.tensor([[-torch.inf, 1.0, 2.0]], dtype=torch.float64)
    near = torch.tensor([[5.0, 2.0, -1.0]], dtype=torch.float64)
    outputs = (Seed(0) / "outputs").normal(1, 1, 4)
    states = [AttentionStates(outputs * i, (scores,)) for i, scores in enumerate((far, near, near), start=1)]
    found = similarities(*states, Seed(0))
    assert found["SimAM"].item() == pytest.approx((1 * 2 - 2 * 1) / (5**0.5 * 5**0.5), abs=1e-12)


# Double precision


def test_a_mixture_of_experts_is_read_in_double_precision(tmp_path):
    words = tokenizer("the film plot actor")
    network("mixtral", vocab_size=len(words)).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    single, double = (load_language_model(tmp_path, dtype=dtype) for dtype in ("float32", "float64"))
    one, other = (next_token_distributions(loaded, ["the film", "plot actor the"]) for loaded in (single, double))
    # Probabilities of at most one behind two layers of sums over sixteen and 24 terms in single precision.
    torch.testing.assert_close(one, other, atol=rounding(terms=24, size=10, steps=20, dtype=torch.float32), rtol=0)


# The untrained control


@pytest.mark.parametrize("name", ["llama", "mixtral", "gpt_oss", "jamba"])
def test_untrained_weights_keep_the_spread_of_every_matrix_and_nothing_else(name):
    one = model(name)
    fresh, own = without_training(one, Seed(0)), dict(one.network.named_parameters())
    tables = {"embed", "lm_head"}
    inner = {key for key, weight in own.items() if weight.ndim >= 2 and not any(t in key for t in tables)}
    assert fresh.keys() == inner
    for key in inner:
        spreads = [weight[key].double().flatten(-2).std(-1) for weight in (fresh, own)]
        assert (fresh[key] != own[key]).all()
        if own[key].shape[-2:].numel() > 100:
            torch.testing.assert_close(*spreads, rtol=0.3, atol=0)


# Training

LESSONS = [
    [Labelled(" ".join(map(str, tokens(size, f"lesson {size}"))), label) for size, label in lessons]
    for lessons in (((6, "a"), (45, "b")), ((30, "b"), (12, "a")))
]
TEMPLATE = Template("", "9", (("a", "11 12"), ("b", "13")), between=" ")


def one_step(network, lessons, how, names):
    """One pass over the lessons by torch.optim, one whole sequence after the other."""
    weights = {name: p.requires_grad_(True) for name, p in network.named_parameters() if name in names}
    kind = torch.optim.SGD if how.optimiser == "gd" else torch.optim.Adam
    optimiser = kind(weights.values(), lr=how.rate)
    size = how.batch or len(lessons)
    for start in range(0, len(lessons), size):
        optimiser.zero_grad()
        for lesson in (part := lessons[start : start + size]):
            prompt = [*map(int, lesson.text.split()), 9]
            ids = torch.tensor([prompt + {"a": [11, 12], "b": [13]}[lesson.label]])
            # RWKV changes its cache in place.
            bare = {"use_cache": False} if network.config.model_type == "rwkv" else {}
            logits = network(input_ids=ids[:, :-1], **bare).logits[0, len(prompt) - 1 :]
            (cross_entropy(logits, ids[0, len(prompt) :], reduction="sum") / len(part)).backward()
        optimiser.step()
    return {name: p.detach() for name, p in weights.items()}


@pytest.mark.parametrize("how", [Descent(1e-2), Descent(1e-2, 1), Descent(1e-3, 2, "adam")], ids=lambda how: how.name)
@every_architecture
def test_one_step_of_every_optimiser_is_that_of_backpropagation(name, how):
    exact = LanguageModel(name, in_float64(model(name).network), Numbers())
    (found,) = fine_tune_together(exact, TEMPLATE, LESSONS, how, [1])
    for run, lessons in enumerate(LESSONS):
        right = one_step(in_float64(exact.network), lessons, how, found)
        # Where Adam meets a slope of nothing but rounding, such as that of a key's bias, it makes a full step of it.
        for key, weight in right.items():
            moved = (weight - dict(exact.network.named_parameters())[key]).abs().max()
            gap = (found[key][run] - weight).abs()
            assert (gap.median() if how.optimiser == "adam" else gap.max()) <= 1e-4 * moved + 1e-9, key


def test_rows_of_other_lengths_would_train_a_switching_model_otherwise():
    """The saboteur: padding for a model whose rotations switch with the longest row."""
    from insitu.language.models.fine_tuning import Batching, Lessons, slopes

    exact = in_float64(model("phi3").network)
    ids = torch.tensor([[[*tokens(8), *[0] * 40], [*tokens(48)]]])
    answers = torch.zeros(1, 2, 48, dtype=torch.float64)
    answers[0, 0, 7] = answers[0, 1, 47] = 1.0
    weights = {name: p[None] for name, p in exact.named_parameters()}
    alone, padded = (
        slopes(exact, weights, Lessons(ids, answers), Batching(padding, runs=False)) for padding in (False, True)
    )
    assert max((alone[name] - padded[name]).abs().max() for name in alone) > 1e-4


# What cannot be read


def test_a_model_that_looks_ahead_is_refused():
    ahead = LanguageModel("masked", network("roberta", is_decoder=False), Numbers())
    with pytest.raises(InputError, match=r"masked is no causal language model: .* is_decoder set to true"):
        Reader(ahead).answers(ROUNDS[0])


def test_a_model_that_remembers_what_it_read_is_refused():
    grows = LanguageModel("growing", network("llama"), Numbers())

    def remember(module, inputs, keywords):
        if keywords["input_ids"].shape[1] > 20:
            module.model.norm.weight += 0.1

    grows.network.register_forward_pre_hook(remember, with_kwargs=True)
    with pytest.raises(InputError, match="otherwise after a longer text than before it"):
        Reader(grows).answers(ROUNDS[0])


def test_a_model_that_cannot_be_trained_is_refused():
    cut = LanguageModel("cut", network("llama"), Numbers())
    cut.network.lm_head.register_forward_hook(lambda module, inputs, output: output.detach())
    with pytest.raises(InputError, match=r"a LlamaForCausalLM, cannot be trained: it fails in back"):
        list(fine_tune_together(cut, TEMPLATE, LESSONS, Descent(1e-2), [1]))


def test_a_model_that_answers_nothing_or_fails_is_refused():
    broken = LanguageModel("broken", network("llama"), Numbers())
    broken.network.model.layers[0].mlp.up_proj.weight.fill_(torch.nan)
    with pytest.raises(InputError, match=r"it answers .* random tokens with NaN or infinity"):
        Reader(broken).answers(ROUNDS[0])
    failing = LanguageModel("failing", network("llama"), Numbers())
    failing.network.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(torch.ones(3, 3))
    with pytest.raises(InputError, match=r"its network fails on \d+ plain tokens \(RuntimeError: "):
        Reader(failing).answers(ROUNDS[0])


def test_a_window_shorter_than_the_probe_is_read_whole():
    short = LanguageModel("short", network("gpt2", n_positions=23), Numbers())
    assert SelfTest(short).shortcuts(20) == WHOLE
