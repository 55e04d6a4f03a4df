"""Pretraining: what it reads, what it writes, and that an interrupted one goes on."""

import json
import lzma
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from insitu.budget import OutOfTimeError, limited
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
from insitu.storage import StorageError, locked

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
    assert [row["step"] for row in rows if row.get("bits per byte", 0) > 0] == [4, 8]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 9))
    parts_rows = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in parts_rows if "loss" in row] == [row["loss"] for row in rows if "loss" in row]
    with pytest.raises(InputError, match="holds a training with another rate"):
        pretrain(Pretraining(**{**vars(SMALL), "rate": 0.5}), text, tmp_path / "parts", resume=True)


CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def half_done(tmp_path_factory):
    """A text, and a training of it whose time was over after its fifth step."""
    place = tmp_path_factory.mktemp("half")
    text = place / "text.txt.xz"
    text.write_bytes(lzma.compress("\n<|endoftext|>\n".join(DOCUMENTS).encode()))
    with limited() as time_left, pytest.raises(OutOfTimeError, match="the time is over after 5 of 8 steps"):
        pretrain(
            SMALL,
            text,
            place / "run",
            snapshots=2,
            tell=lambda step, loss: time_left.end() if step == 5 else None,
            device=CPU,
        )
    return text, place / "run"


@pytest.fixture
def copied(half_done, tmp_path):
    """The text, and a copy of that training."""
    return half_done[0], Path(shutil.copytree(half_done[1], tmp_path / "run"))


pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:FutureWarning")


def resumed(text, folder, recipe=SMALL):
    return pretrain(recipe, text, folder, snapshots=2, resume=True, device=CPU)


def test_sittings_add_up_to_one_pretraining(copied, tmp_path):
    text, folder = copied
    whole = pretrain(SMALL, text, tmp_path / "whole", snapshots=2, device=CPU)
    parts = resumed(text, folder)
    for a, b in zip(whole.model.network.parameters(), parts.model.network.parameters(), strict=True):
        assert torch.equal(a, b)
    for name in (
        "metrics.jsonl",
        "model.safetensors",
        "tokenizer.json",
        "sha256.json",
        "snapshots/step-000008/sha256.json",
    ):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_state_that_was_being_written_is_passed_over(copied, tmp_path):
    text, folder = copied
    torn = Path(shutil.copytree(folder / "state" / "checkpoint-5", folder / "state" / "checkpoint-7"))
    (torn / "sha256.json").unlink()
    (torn / "optimizer.pt").write_bytes(b"")
    resumed(text, folder)
    assert [path.name for path in (folder / "state").iterdir()] == ["checkpoint-8"]


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "model.safetensors", "scheduler.pt", "trainer_state.json", "rng_state.pth"]
)
@pytest.mark.parametrize("harm", ["removed", "flipped", "cut"])
def test_damage_to_a_state_is_noticed(name, harm, copied):
    text, folder = copied
    file = folder / "state" / "checkpoint-5" / name
    content = bytearray(file.read_bytes())
    file.unlink()
    if harm != "removed":
        content[len(content) // 2] ^= 4
        file.write_bytes(content[:-1] if harm == "cut" else content)
    with pytest.raises(InputError, match=r"is damaged: .* Remove .*state to start again from the first step"):
        resumed(text, folder)


def test_what_belongs_to_another_pretraining_is_refused(copied, tmp_path):
    text, folder = copied
    other = tmp_path / "other.txt"
    other.write_text("\n<|endoftext|>\n".join(DOCUMENTS[1:]))
    with pytest.raises(InputError, match="holds a training with another text"):
        resumed(other, folder)
    (folder / "metrics.jsonl").write_text("".join((folder / "metrics.jsonl").read_text().splitlines(True)[1:]))
    with pytest.raises(InputError, match="does not hold the losses of all 5 steps"):
        resumed(text, folder)
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text().replace("the", "teh", 1))
    with pytest.raises(InputError, match=r"tokenizer\.json is damaged"):
        resumed(text, folder)
    (folder / "recipe.json").write_text("{")
    with pytest.raises(InputError, match=r"recipe\.json and tokenizer\.json cannot be read"):
        resumed(text, folder)
    with locked(folder), pytest.raises(StorageError, match="in use by another process"):
        resumed(text, folder)


def test_a_pretrained_model_whose_weights_changed_is_refused(copied):
    text, folder = copied
    resumed(text, folder)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors does not match its digest in sha256\.json"):
        load_language_model(folder)


def test_a_disk_that_is_full_while_a_state_is_written_is_one_paragraph(copied, monkeypatch):
    text, folder = copied

    def full(*args, **rest):
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match=r"could not write into .*state: PytorchStreamWriter failed .*Make room"):
        resumed(text, folder)
    monkeypatch.undo()
    resumed(text, folder)
