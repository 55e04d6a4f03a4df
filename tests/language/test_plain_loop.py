"""Reading, training and their measures against a plain PyTorch loop, on architectures and tokenisers of neither bundled
model: OPT with learned positions and Qwen2 with one key for all queries, both on unigram pieces behind a token that
begins the text, and GPT-NeoX with fused queries on pairs of bytes."""

import copy
import math
import random
import sys
from pathlib import Path

import pytest
import torch

from insitu.language import Corpus, Descent, Labelled, LanguageModel, Template, draw_orders, fine_tune
from insitu.language.measure.bench import set_up
from insitu.language.measure.compare import ICL, Comparison, compare
from insitu.language.measure.order import Orders, order_sensitivity
from insitu.seed import Seed

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.language.small_models import WORDS
from tests.language.small_models import tokenizer as byte_tokenizer

TEMPLATE = Template("Text: ", "Kind:", (("fact", "true story"), ("view", "opinion")))
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
RATE, EPOCHS, SHOTS = 0.05, 2, 3
DESCENTS = (Descent(RATE), Descent(RATE, 1))


def unigram_tokenizer():
    """Pieces of a unigram model, and a token at the start of every text.

    The pieces are listed: its trainer draws pieces that are equally likely in another order every time, and the weights
    that belong to them would be those of another model.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [f"▁{word}" for word in " ".join((*WORDS, "Text:", "Kind:", "true story", "opinion")).split()]
    pieces = sorted({word[:3] for word in words} | {letter for word in words for letter in word})
    listed = [("<unk>", 0.0), ("<s>", 0.0), *((piece, -3.0 - i / 50) for i, piece in enumerate(pieces))]
    made = Tokenizer(models.Unigram(listed, unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>")


SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "max_position_embeddings": 256}


def opt():
    from transformers import OPTConfig, OPTForCausalLM

    tokenizer = unigram_tokenizer()
    own = {"ffn_dim": 40, "word_embed_proj_dim": 24, "dropout": 0.0, "init_std": 0.3}
    return tokenizer, OPTForCausalLM(OPTConfig(vocab_size=len(tokenizer), **SIZES, **own))


def gpt_neox():
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    tokenizer = byte_tokenizer(" ".join((*WORDS, "Text:", "Kind:", "true story", "opinion")))
    own = {"intermediate_size": 40, "rotary_pct": 0.5, "initializer_range": 0.3}
    return tokenizer, GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=len(tokenizer), **SIZES, **own))


def qwen2():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = unigram_tokenizer()
    own = {"num_key_value_heads": 1, "intermediate_size": 40, "initializer_range": 0.1}
    return tokenizer, Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **SIZES, **own))


def rows(count, draw):
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(3, 6))) for _ in range(count)]
    return tuple(Labelled(text, ("fact", "view")[i % 2], "", str(i)) for i, text in enumerate(texts))


@pytest.fixture(scope="module", params=[opt, gpt_neox, qwen2], ids=lambda make: make.__name__)
def made(request):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return request.param()


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=str)
def bench(request, made):
    draw = random.Random(3)
    tokenizer, network = made
    network = copy.deepcopy(network).to(request.param).eval().requires_grad_(False)
    corpus = Corpus("own", rows(24, draw), rows(8, draw))
    return set_up(LanguageModel("own", network, tokenizer), corpus, TEMPLATE, Seed(2), shots=SHOTS, items=5)


@pytest.fixture(scope="module")
def records(bench):
    setting = Comparison((SHOTS,), 2, 2, DESCENTS, (EPOCHS,))
    return {(r["arm"], r["set"]): r for _, _, r in compare(bench, setting)}


def encode(bench, text):
    return bench.model.tokenizer(text).input_ids


def logits(network, ids):
    return network(input_ids=torch.tensor([ids])).logits[0]


def distribution(network, bench, prompt):
    """Of the next token."""
    return logits(network, encode(bench, prompt))[-1].double().softmax(-1)


def word_score(network, bench, prompt, word):
    """The log-probability of a whole word behind a prompt."""
    ids, start = encode(bench, f"{prompt} {word}"), len(encode(bench, prompt))
    logs = logits(network, ids).double().log_softmax(-1)
    return sum(logs[place - 1, ids[place]] for place in range(start, len(ids)))


def prompt_of(text, shown=()):
    words = dict(TEMPLATE.words)
    return "".join(f"Text: {d.text}\nKind: {words[d.label]}\n\n" for d in shown) + f"Text: {text}\nKind:"


def trained(bench, shown, size):
    """A copy of the network after plain SGD on consecutive demonstrations."""
    network = copy.deepcopy(bench.model.network).requires_grad_(True)
    optimiser = torch.optim.SGD(network.parameters(), lr=RATE)
    for _ in range(EPOCHS):
        for start in range(0, len(shown), size):
            batch = shown[start : start + size]
            loss = sum(-word_score(network, bench, prompt_of(d.text), dict(TEMPLATE.words)[d.label]) for d in batch)
            optimiser.zero_grad()
            (loss / len(batch)).backward()
            optimiser.step()
    return network.requires_grad_(False)


def arms(bench, number):
    """Every arm's network and the demonstrations that stand before its questions."""
    shown = bench.demonstrate(number, SHOTS)
    return {
        ICL: (bench.model.network, shown),
        "zero-shot": (bench.model.network, ()),
        "gd all 0.05": (trained(bench, shown, SHOTS), ()),
        "sgd1 all 0.05": (trained(bench, shown, 1), ()),
    }


def largest_gap(found, expected):
    assert found.keys() == expected.keys()
    return max((found[name] - expected[name]).abs().max().item() for name in found)


def close(found, expected, bench):
    assert found == pytest.approx(expected, abs=TOLERANCE[bench.model.network.dtype])


@pytest.mark.parametrize("number", [0, 1])
def test_answers_and_their_measures(bench, records, number):
    shown = bench.demonstrate(number, SHOTS)
    reading = [distribution(bench.model.network, bench, prompt_of(row.text, shown)) for row in bench.items]
    for arm, (network, before) in arms(bench, number).items():
        record = records[arm, number]
        answers = [distribution(network, bench, prompt_of(row.text, before)) for row in bench.items]
        right = restricted = overlap = 0.0
        for row, p, q, item in zip(bench.items, answers, reading, record["items"], strict=True):
            prompt = prompt_of(row.text, before)
            scores = {label: word_score(network, bench, prompt, word) for label, word in TEMPLATE.words}
            whole = sum(math.exp(s) for s in scores.values())
            close(item["probabilities"], {label: math.exp(s) / whole for label, s in scores.items()}, bench)
            gold = encode(bench, f"{prompt} {dict(TEMPLATE.words)[row.label]}")[len(encode(bench, prompt))]
            right += int(p.argmax()) == gold
            restricted += max(scores, key=scores.get) == row.label
            overlap += len(set(p.topk(10).indices.tolist()) & set(q.topk(10).indices.tolist())) / 10
        count = len(bench.items)
        expected = {
            "accuracy": right / count,
            "restricted accuracy": restricted / count,
            "token overlap": overlap / count,
        }
        close({name: record["measures"][name][-1] for name in expected}, expected, bench)


@pytest.mark.parametrize(("size", "how"), [(SHOTS, DESCENTS[0]), (1, DESCENTS[1])], ids=["gd", "sgd1"])
def test_the_state_after_training(bench, size, how):
    shown = bench.demonstrate(0, SHOTS)
    (found,) = fine_tune(bench.model, TEMPLATE, shown, rate=RATE, epochs=[EPOCHS], batch=how.batch)
    expected = dict(trained(bench, shown, size).named_parameters())
    start = dict(bench.model.network.named_parameters())
    tolerance = TOLERANCE[bench.model.network.dtype]
    assert largest_gap(found, expected) < tolerance
    assert largest_gap(found, start) > 100 * tolerance, "nothing was trained"


def test_the_order_of_demonstrations_tells_the_plain_loop_apart(bench):
    """A saboteur: the comparison rejects training on the same demonstrations in another order."""
    shown = bench.demonstrate(0, SHOTS)
    (found,) = fine_tune(bench.model, TEMPLATE, shown, rate=RATE, epochs=[EPOCHS], batch=1)
    other = dict(trained(bench, shown[::-1], 1).named_parameters())
    assert largest_gap(found, other) > 1e-3


def test_order_sensitivity(bench):
    orders = draw_orders(bench.seed / "set" / 0 / "orders", SHOTS, 3)
    shown = bench.demonstrate(0, SHOTS)
    arranged = [[shown[i] for i in order] for order in orders.tolist()]
    setting = Orders(SHOTS, 1, 3, (DESCENTS[1],), (EPOCHS,))
    records = {r["arm"]: r for _, _, r in order_sensitivity(bench, setting)}
    network = bench.model.network
    read = [[distribution(network, bench, prompt_of(row.text, own)) for row in bench.items] for own in arranged]
    networks = [trained(bench, own, 1) for own in arranged]
    tuned = [[distribution(n, bench, prompt_of(row.text)) for row in bench.items] for n in networks]
    for arm, answers in ((ICL, read), ("sgd1 all 0.05", tuned)):
        spreads = [torch.stack([own[i] for own in answers]).std(0).sum().item() for i in range(len(bench.items))]
        close(records[arm]["measures"]["Sen"][-1], sum(spreads) / len(spreads), bench)
        assert sum(spreads) > 0.01
