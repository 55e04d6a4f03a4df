"""Which short cuts a model allows, found by trying them against plain forward passes of the model itself.

No list of architectures is kept: what a windowed, recurrent, convolutional or length-dependent network makes of a short
cut shows in its numbers. Random tokens are read both ways, once by the code that reads prompts and once by a plain call
of the network for every sequence; a short cut is taken where the two agree up to rounding. An architecture may change
its ways at a length, such as that of its window. Every whole number of its configuration may be one, so the probe is
longer than all of them that prompts exceed, and a reading beyond the next of them is tried anew.
"""

import copy
import dataclasses
import inspect
import itertools
import re
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor

from insitu.errors import InputError
from insitu.language.models.forwards import FAST, WHOLE, Answers, Forwards, Question, Shortcuts, run
from insitu.language.models.prefix_mask import prefix_attention
from insitu.language.models.pretrained import LanguageModel
from insitu.seed import Seed

__all__ = ["SelfTest", "self_test", "with_network"]

# How many tokens the probe has, how many at least, and how many more than a length at which the model may change its
# ways.
PROBE, SHORTEST, BEYOND = 32, 24, 16
# The largest difference of two log-probabilities, relative to the largest of them, that is rounding.
ROUNDING = {torch.float64: 1e-5, torch.float32: 1e-4}
HALF_ROUNDING = 0.05
# Networks in half precision are tried in float32, up to this many weights, where structure stands out from rounding.
COPIED = 2**28
# Whole numbers of configurations that are no lengths of sequences.
SIZES = re.compile(
    r"(hidden|intermediate|vocab|inner|embedding)_size|head_dim|n_(embd|inner|layers?|heads?)|d_model|rope_theta|"
    r"num_(hidden_layers|layers|attention_heads|key_value_heads|heads)|ffn_(hidden_size|dim)|.*(_id|_proj_dim)"
)


@final
class SelfTest:
    """What a model allows, each found when it is first needed.

    Args:
        model: The model.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.found: dict[int, Shortcuts] = {}
        self.faults: dict[int, str] = {}

    def shortcuts(self, length: int) -> Shortcuts:
        """The short cuts that are exact for sequences of so many tokens and for shorter ones.

        Raises:
            InputError: If the model cannot be read at all, sees what stands behind a token, or says another thing when
                read again.
        """
        size = probe_size(self.model, length)
        if size not in self.found:
            self.found[size] = exact_shortcuts(self.model, size)
        return self.found[size]

    def require_prefix(self, length: int) -> None:
        """Refuse a model that a prefix mask over so many tokens does not reach.

        Raises:
            InputError: If a mask of length zero is not causal attention, the mask does nothing, or tokens see what
                stands behind the prefix.
        """
        size = probe_size(self.model, length)
        if size not in self.faults:
            self.faults[size] = prefix_fault(self.model, size)
        if self.faults[size]:
            raise InputError(
                f"prefix mask: {self.model.name} cannot be read under it: {self.faults[size]}. Take a model whose "
                "layers attend by masks, such as Llama, GPT-2 or GPT-NeoX."
            )

    def fallback(self, lengths: Iterable[int]) -> str:
        """What is done in place of the short cuts that a reading of one of the lengths cannot take; empty if none."""
        taken = [tuple(vars(self.shortcuts(length)).values()) for length in lengths]
        common = Shortcuts(*map(all, zip(*taken, strict=True)))
        return "" if common == FAST else str(common)


known: "weakref.WeakKeyDictionary[LanguageModel, SelfTest]" = weakref.WeakKeyDictionary()


def self_test(model: LanguageModel) -> SelfTest:
    """The self-test of a model, which remembers what it found."""
    if model not in known:
        known[model] = SelfTest(model)
    return known[model]


def with_network(model: LanguageModel, network: Any) -> LanguageModel:
    """The model with a network of the same architecture and other weights, to which the same self-test applies."""
    twin = dataclasses.replace(model, network=network)
    if network.dtype == model.network.dtype:
        known[twin] = self_test(model)
    return twin


def whole_numbers(config: Mapping[Any, Any]) -> Iterator[tuple[str, int]]:
    """The whole numbers of a configuration, of its parts and lists too, each with its name."""
    for name, value in config.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, Mapping):
                yield from whole_numbers(one)
            elif isinstance(one, int | float) and float(one).is_integer():
                yield str(name), int(one)


def landmarks(model: LanguageModel) -> list[int]:
    """The lengths at which a model may change its ways: windows and their halves, chunks, switches, by any name."""
    found = set()
    for name, number in whole_numbers(model.config.to_dict()):
        if not SIZES.fullmatch(name):
            found |= {number, number // 2} if re.search("window|local", name) else {number}
    return sorted(n for n in found if PROBE <= n < model.window)


def probe_size(model: LanguageModel, length: int) -> int:
    """How long the probe is for a reading of so many tokens: beyond what these exceed, below what they do not."""
    lengths = landmarks(model)
    passed, ahead = [n for n in lengths if n <= length], [n for n in lengths if n > length]
    return min(max([PROBE, *(n + BEYOND for n in passed)]), *(n - 1 for n in ahead), model.window)


@torch.no_grad()
def exact_shortcuts(model: LanguageModel, size: int) -> Shortcuts:
    if size < SHORTEST:
        return WHOLE
    model = precise(model)
    rounds = probe(model, size)
    expected = {q: plain_answer(model, q) for q in dict.fromkeys(itertools.chain(*rounds))}
    require_readable(model, rounds, expected)

    def exact(shortcuts: Shortcuts) -> bool:
        forwards = Forwards(model)
        try:
            return all(
                close(model, forwards.answers(questions, shortcuts), [expected[q] for q in questions])
                for questions in rounds
            )
        except Exception:  # the code of a network may fail in any way on what it was not made for
            return False

    if exact(FAST):
        return FAST
    if not exact(Shortcuts(padding=True)):
        return WHOLE  # What is said depends on the length of a row, and every short cut changes that.
    branches, reuse = exact(Shortcuts(branches=True, padding=True)), exact(Shortcuts(reuse=True, padding=True))
    return Shortcuts(branches, reuse and not branches, padding=True)


def precise(model: LanguageModel) -> LanguageModel:
    """The model itself, or in float32 where its own precision would hide what is looked for."""
    network = model.network
    if network.dtype in ROUNDING or sum(p.numel() for p in network.parameters()) > COPIED:
        return model
    return dataclasses.replace(model, network=copy.deepcopy(network).float())


def probe(model: LanguageModel, size: int) -> list[list[Question]]:
    """What is read: little, then much that goes on from it, then lengths that differ, then the first again."""
    ids = ordinary_tokens(model, size + 8)
    row, (x, y, z, *more) = ids[:size], ids[size:]
    longest = size - 3
    words = (
        ("first", (x, y, z, *more[:1])),
        ("second", (y,)),
        ("third", (z, *more[1:4])),
        ("begins as the first", (x, y, *more[3:5])),
    )
    short = [Question((*row[:10], x), words[1:2]), Question((*row[:10], y, z), words[1:2])]
    long = [Question(row[:longest], words), Question((*row[: longest - 6], z), words)]
    ragged = [Question(row[:longest], words), Question((z, *row[1:5]), words)]
    return [short, long, ragged, short]


def ordinary_tokens(model: LanguageModel, count: int) -> tuple[int, ...]:
    """Random tokens, none of which is a special one; the last eight differ."""
    named = whole_numbers(model.network.config.to_dict())
    special = {*model.tokenizer.all_special_ids, *(i for name, i in named if re.search("token_(id|index)$", name))}
    most = min(model.network.get_input_embeddings().weight.shape[0], len(model.tokenizer))
    usual = torch.tensor([i for i in range(most) if i not in special])
    seed = Seed(0) / "self-test"
    drawn = usual[(seed / "row").integers(len(usual), count - 8)]
    return tuple(torch.cat([drawn, usual[(seed / "words").permutation(len(usual))[:8]]]).tolist())


def plain(model: LanguageModel, ids: tuple[int, ...], last: int) -> Tensor:
    """The log-probabilities behind the last tokens of one sequence, by nothing but a call of the network.

    Raises:
        InputError: If the network fails.
    """
    known = inspect.signature(model.network.forward).parameters
    bare = {key: value for key, value in {"logits_to_keep": last, "use_cache": False}.items() if key in known}
    try:
        logits = model.network(input_ids=torch.tensor([ids], device=model.device), **bare).logits
    except Exception as error:  # the code of a network may fail in any way
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise InputError(
            f"{model.name} cannot be read: its network fails on {len(ids)} plain tokens ({type(error).__name__}: "
            f"{reason}). Give a causal language model that answers network(input_ids=...)."
        ) from None
    return logits[0, -last:].double().log_softmax(-1).cpu()


def plain_answer(model: LanguageModel, question: Question) -> tuple[Tensor, Tensor, Tensor]:
    """The log-probabilities behind a prompt, of each word, and behind the prompt where each word follows it."""
    alone = plain(model, question.prompt, 1)
    behind = [
        plain(model, (*question.prompt, *word[:-1]), len(word)) if len(word) > 1 else alone
        for _, word in question.words
    ]
    words = [
        logs.gather(-1, torch.tensor(word)[:, None]).sum()
        for logs, (_, word) in zip(behind, question.words, strict=True)
    ]
    return alone[0], torch.stack(words), torch.stack([logs[0] for logs in behind])


def require_readable(
    model: LanguageModel, rounds: list[list[Question]], expected: Mapping[Question, tuple[Tensor, Tensor, Tensor]]
) -> None:
    """Refuse a network that says nothing, looks ahead, or depends on what it read before."""
    for question, (tokens, *_) in expected.items():
        if not tokens.isfinite().all():
            raise InputError(
                f"{model.name} cannot be read: it answers {len(question.prompt)} random tokens with NaN or infinity. "
                "Its weights may be damaged, or need another precision (--dtype float32)."
            )
    first, long = rounds[0][0], rounds[1][0]
    if differ(model, plain(model, first.prompt, 1)[0], expected[first][0]):
        raise InputError(
            f"{model.name} cannot be read: it answers the same {len(first.prompt)} tokens otherwise after a longer "
            "text than before it, so no answer is its own. Take rotations (rope_type) that do not grow with the text."
        )
    behind = expected[long][2]
    if differ(model, behind[0], behind[2]):
        raise InputError(
            f"{model.name} is no causal language model: what it says behind a token changes with the tokens that "
            "follow. A masked model, such as BERT, reads causally with is_decoder set to true in its config.json."
        )


def differ(model: LanguageModel, one: Tensor, other: Tensor) -> bool:
    """Whether log-probabilities differ by more than rounding."""
    one, other = one.clamp(min=-600.0), other.clamp(min=-600.0)
    most = ROUNDING.get(model.network.dtype, HALF_ROUNDING)
    return not ((one - other).abs().max() <= most * max(1.0, other.abs().max().item()))


def close(model: LanguageModel, answers: Answers, expected: list[tuple[Tensor, Tensor, Tensor]]) -> bool:
    tokens, words = (torch.stack(column) for column in list(zip(*expected, strict=True))[:2])
    return not (differ(model, answers.tokens.log(), tokens) or differ(model, answers.labels, words))


@torch.no_grad()
def prefix_fault(model: LanguageModel, size: int) -> str:
    """What is wrong with the model under a prefix mask; empty if nothing is."""
    model = precise(model)
    ids = torch.tensor([ordinary_tokens(model, size + 8)[:size]], device=model.device)
    changed = ids.clone()
    changed[0, -1] = ids[0, 0]

    def said(row: Tensor, prefix: int | None = None) -> Tensor:
        kept = torch.arange(size, device=row.device)
        if prefix is None:
            logits, _ = run(model.network, row, kept)
        else:
            with prefix_attention(model.network, torch.tensor([prefix], device=row.device)):
                logits, _ = run(model.network, row, kept)
        return logits[0].double().log_softmax(-1).cpu()

    causal, masked = said(ids), said(ids, size - 1)
    if differ(model, said(ids, 0), causal):
        return "with no demonstration at all its answers already differ from causal ones"
    if not differ(model, masked[-1], causal[-1]):
        return "the mask changes no answer; its layers do not look at it, or too few of them do"
    if differ(model, said(changed, size - 1)[:-1], masked[:-1]):
        return "under the mask tokens also see what stands behind the demonstrations"
    return ""
