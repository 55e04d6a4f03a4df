"""Pretraining: what it reads, what it writes, and that an interrupted one goes on."""

import json
import lzma
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from insitu.errors import InputError
from insitu.language import load_language_model
from insitu.language.pretraining.bits_per_byte import bits_per_byte
from insitu.language.pretraining.pretraining import (
    Pretraining,
    encoded_blocks,
    learn_tokenizer,
    pretrain,
    read_documents,
    snapshots,
)

DOCUMENTS = [
    f"Chapter {i}. It was a day like day {i % 7}, and nobody came to the house by the river." for i in range(60)
]
SMALL = Pretraining(vocabulary=300, width=16, layers=1, heads=2, inner=24, window=32, batch=2, steps=8, rate=1e-2)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt.xz"
    path.write_bytes(lzma.compress("\n<|endoftext|>\n".join(DOCUMENTS).encode()))
    return path


def test_documents_are_what_stands_between_separators(text, tmp_path):
    plain = tmp_path / "text.txt"
    plain.write_text("\n<|endoftext|>\n".join(DOCUMENTS))
    assert list(read_documents(text)) == list(read_documents(plain)) == DOCUMENTS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", None, "cannot read"),
        ("a.txt", b"\xff\xfe", "is not UTF-8 text"),
        ("a.xz", b"no archive", "is not UTF-8 text, plain or .xz"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_documents(tmp_path / name))


def test_blocks_hold_the_text_and_nothing_else():
    words = learn_tokenizer(DOCUMENTS, 300, 32)
    blocks = encoded_blocks(words, DOCUMENTS, 32)
    assert blocks.dtype == np.uint16
    told = words.decode(blocks.flatten().tolist())
    assert "<|endoftext|>".join(["", *DOCUMENTS]).startswith(told)
    assert torch.tensor(encoded_blocks(words, DOCUMENTS, 32, most=3).astype(int)).equal(
        torch.tensor(blocks[:3].astype(int))
    )
    with pytest.raises(InputError, match="fewer than one block"):
        encoded_blocks(words, ["short"], 512)


def test_a_word_behind_a_prompt_is_a_token_of_its_own():
    words = learn_tokenizer(DOCUMENTS, 300, 32)
    prompt, whole = (words("Type:").input_ids, words("Type: house").input_ids)
    assert whole[: len(prompt)] == prompt
    assert words.decode(words("x y").input_ids[1:]) == "x y"


def test_bits_per_byte_against_one_block_at_a_time():
    model = load_language_model("stories260K")
    text = "Once upon a time, there was a little dog. " * 12
    ids = model.encode(text)
    total = 0.0
    for start in range(0, len(ids) - 1, 39):
        block = torch.tensor(ids[start : start + 40])
        logits = model.network(input_ids=block[None]).logits[0].double()
        total += cross_entropy(logits[:-1], block[1:], reduction="sum").item()
    assert bits_per_byte(model, text, window=40, batch=3) == pytest.approx(total / math.log(2) / len(text), rel=1e-6)
    with pytest.raises(InputError, match="the text is empty"):
        bits_per_byte(model, "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 18, "heads": 4}, "width must be an even multiple of heads"),
        ({"vocabulary": 256}, "vocabulary must be a whole number of at least 257"),
        ({"steps": 0}, "steps must be"),
        ({"rate": 0.0}, "rate must be"),
    ],
)
def test_a_recipe_out_of_range_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        Pretraining(**change)


@pytest.mark.filterwarnings("ignore")
def test_an_interrupted_pretraining_ends_like_one_that_was_not(text, tmp_path):
    class StopError(Exception):
        pass

    def stop(step, loss):
        if step == 6:
            raise StopError

    device = torch.device("cpu")
    whole = pretrain(SMALL, text, tmp_path / "whole", heldout=text, snapshots=2, device=device)
    with pytest.raises(StopError):
        pretrain(SMALL, text, tmp_path / "parts", snapshots=2, seconds=0.0, tell=stop, device=device)
    parts = pretrain(SMALL, text, tmp_path / "parts", snapshots=2, resume=True, device=device)
    for a, b in zip(whole.model.network.parameters(), parts.model.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [step for step, _ in snapshots(tmp_path / "whole")] == [4, 8]
    model = load_language_model(tmp_path / "whole")
    assert bits_per_byte(model, "\n".join(DOCUMENTS)) == pytest.approx(whole.bits, abs=0.01)
    assert "bits per byte" in (tmp_path / "whole" / "README.md").read_text()
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["bits per byte"] > 0
    with pytest.raises(InputError, match="holds a training with another rate"):
        pretrain(Pretraining(**{**vars(SMALL), "rate": 0.5}), text, tmp_path / "parts", resume=True)
