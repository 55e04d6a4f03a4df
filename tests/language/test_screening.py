"""Rows that must not be used are left out and counted; no question stands among its own demonstrations."""

import json
import random
from collections import Counter
from dataclasses import replace

import pytest
from tests.language.small_models import WORDS, write_corpus, write_model
from tests.language.test_data import Split

from insitu.errors import InputError
from insitu.language import (
    Corpus,
    Labelled,
    Template,
    exclusion_counts,
    exclusions_in_words,
    load_corpus,
    load_language_model,
    screened,
)
from insitu.language.measure.bench import data_notes, set_up
from insitu.language.texts.hub import corpus_of_splits
from insitu.language.texts.splits import drawn_split
from insitu.seed import Seed

TEMPLATE = Template("Text: ", "Kind:", (("fact", "fact"), ("view", "opinion")))


def write(folder, **parts):
    folder.mkdir(exist_ok=True)
    for part, rows in parts.items():
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def rows_of(*pairs):
    return tuple(Labelled(text, label, id=str(i)) for i, (text, label) in enumerate(pairs))


def texts(rows):
    return [row.text for row in rows]


def messy(draw, size):
    """Rows of few different texts, so that all faults occur, with blanks that make no difference."""
    made = []
    for i in range(size):
        words = draw.choice(("", " ", *WORDS[:6]))
        made.append(Labelled(draw.choice(("", " ")) + words, draw.choice("ab"), id=str(i)))
    return made


def plain_screening(train, test):
    """What is kept, by the definition and one pair of rows after the other."""

    def kept(rows):
        found = []
        for i, row in enumerate(rows):
            same = [other for other in rows if other.text.split() == row.text.split()]
            first = not any(other.text.split() == row.text.split() for other in rows[:i])
            if row.text.strip() and len({other.label for other in same}) == 1 and first:
                found.append(row)
        return found

    asked = kept(test)
    return [row for row in kept(train) if all(row.text.split() != other.text.split() for other in asked)], asked


def test_screening_is_its_definition():
    draw = random.Random(0)
    refused = 0
    for _ in range(300):
        train, test = messy(draw, 12), messy(draw, 4)
        expected = plain_screening(train, test)
        try:
            found = screened(Corpus("x", tuple(train), tuple(test)))
        except InputError:
            refused += not expected[1] or len({row.label for row in expected[0]}) < 2
            continue
        assert (list(found.train), list(found.test)) == expected
        assert len(found.excluded) == 16 - len(found.train) - len(found.test)
        assert screened(found) == found
    assert 30 < refused < 270


def test_every_reason_is_counted_and_said():
    corpus = Corpus(
        "x",
        rows_of(("a", "x"), ("b", "y"), ("a ", "x"), ("c", "x"), ("c", "y"), ("d", "x"), ("", "y")),
        rows_of((" d", "x"), ("e", "y"), ("e", "y")),
    )
    found = screened(corpus)
    counts = {"duplicate": 1, "with two labels": 2, "also in test": 1, "empty": 1}
    assert exclusion_counts(found.excluded) == {"train": counts, "test": {"duplicate": 1}}
    assert "2 train rows with two labels" in exclusions_in_words(exclusion_counts(found.excluded))
    with pytest.raises(InputError, match="the train row '5' is left out: it is also in test"):
        found.named(["0", "5"])
    with pytest.raises(InputError, match="the train row '0' is named twice"):
        found.named(["0", "0"])


def test_a_corpus_that_is_all_in_test_is_refused():
    rows = rows_of(("a", "x"), ("b", "y"))
    with pytest.raises(InputError, match=r"no train row is left\. Left out: 2 train rows also in test"):
        screened(Corpus("x", rows, rows))
    with pytest.raises(InputError, match="no train row with the label 'y' is left"):
        screened(Corpus("x", rows, rows_of(("b", "y"))))
    with pytest.raises(InputError, match=r"no test row is left\. Left out: 2 test rows with two labels"):
        screened(Corpus("x", rows, rows_of(("c", "x"), ("c", "y"))))


# Labels, texts and ids that are not there


def test_rows_without_label_or_text_are_left_out_and_counted(tmp_path):
    train = [
        {"text": "a", "label": "x"},
        {"text": None, "label": "x"},
        {"text": "b", "label": None},
        {"text": "c", "label": " "},
        {"text": " ", "label": "y", "id": None},
        {"text": "d", "label": " y  z ", "id": None},
    ]
    test = [{"text": "e", "label": "x", "id": 5}, {"text": "f", "label": "y z", "id": "own"}]
    corpus = load_corpus(write(tmp_path / "data", train=train, test=test))
    assert corpus.labels == ("x", "y z")
    assert exclusion_counts(corpus.excluded) == {"train": {"empty": 2, "without label": 2}}
    assert [row.id for row in (*corpus.train, *corpus.test)] == ["0", "5", "5", "own"]


@pytest.mark.parametrize(
    ("train", "test", "kept"),
    [
        ([0, 1, 2, -1], [0, 2], [0, 1, 2]),
        ([0, 1, 2, -1], [-1, 2], [0, 1, 2]),
        ([1, -1], [-1, 1], [1, -1]),
        ([0.0, 1.0, None], [0, float("nan")], [0, 1]),
        ([True, False], [True], None),
    ],
)
def test_whole_number_labels_are_read_and_minus_one_beside_classes_is_none(tmp_path, train, test, kept):
    parts = {
        part: [{"text": f"{part} {i}", "label": label} for i, label in enumerate(labels)]
        for part, labels in (("train", train), ("test", test))
    }
    corpus = load_corpus(write(tmp_path / "data", **parts))
    assert corpus.labels == (("false", "true") if kept is None else tuple(sorted(map(str, kept))))
    for row in corpus.train:
        assert row.label == str(train[int(row.id)]).lower().removesuffix(".0")


def test_minus_one_that_may_be_a_class_is_refused(tmp_path):
    rows = [{"text": str(label), "label": label} for label in (-1, 0, 1)]
    with pytest.raises(InputError, match="-1, 0 and 1, where -1 may stand for a third class or for no label"):
        load_corpus(write(tmp_path / "data", train=rows, test=rows))


def test_hidden_labels_of_the_hub_are_left_out_wherever_they_stand():
    names = ["entailment", "neutral", "contradiction"]
    rows = [{"premise": f"p{i}", "hypothesis": f"h{i}", "label": i % 4 - 1} for i in range(16)]
    splits = {"train": Split(rows, names), "test": Split(rows[:8], names)}
    corpus = corpus_of_splits("snli", splits)
    assert exclusion_counts(corpus.excluded) == {"train": {"without label": 4}, "test": {"without label": 2}}
    for row in corpus.train:
        assert row.label == names[int(row.id) % 4 - 1]
        assert int(row.id) % 4
    with pytest.raises(InputError, match="row 2: the label in 'label' must be a whole number below 3 or -1; got 3"):
        corpus_of_splits("x", splits | {"train": Split([rows[0], rows[1], {**rows[0], "label": 3}], names)})


def test_a_split_of_the_hub_without_test_is_split_by_a_draw():
    rows = [{"text": f"t{i}", "label": i % 2} for i in range(12)]
    corpus = corpus_of_splits("x", {"train": Split(rows, ["no", "yes"])}, seed=Seed(3))
    assert corpus.source.split == "drawn with seed 3: 8 train rows and 4 test rows"


# Splits


@pytest.mark.parametrize("seed", range(5))
def test_a_drawn_split_keeps_copies_together_and_every_label_on_both_sides(seed):
    rows = rows_of(*((f"t{i % 17}", "abc"[i % 17 % 3]) for i in range(40)))
    train, test = drawn_split(rows, Seed(seed))
    assert Counter((*train, *test)) == Counter(rows)
    assert not set(texts(train)) & set(texts(test))
    assert {row.label for row in train} == {row.label for row in test} == set("abc")
    assert len(set(texts(test))) == 2 + 2 + 1
    assert drawn_split(rows, Seed(seed)) == (train, test)
    assert drawn_split(rows, Seed(seed + 1)) != (train, test)


def test_a_column_of_splits_is_followed(tmp_path):
    rows = [{"text": f"t{i}", "label": "ab"[i % 2], "split": ("train", "Validation")[i // 4]} for i in range(8)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = load_corpus(tmp_path / "x.jsonl")
    assert (texts(corpus.train), texts(corpus.test)) == (["t0", "t1", "t2", "t3"], ["t4", "t5", "t6", "t7"])
    assert corpus.source.split == "train and validation, as the data has them"
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({**row, "split": 1}) + "\n" for row in rows))
    with pytest.raises(InputError, match="the column 'split' holds '1'; expected train and test"):
        load_corpus(tmp_path / "x.jsonl")


def test_a_folder_may_hold_files_of_several_kinds(tmp_path):
    write(tmp_path, train=[{"text": "a", "label": "x"}, {"text": "b", "label": "y"}])
    with pytest.raises(InputError, match=r"cannot read .*test.jsonl: No such file.*name a single file instead"):
        load_corpus(tmp_path)
    (tmp_path / "dev-00000-of-00001.csv").write_text("text,label\nc,y\n")
    corpus = load_corpus(tmp_path)
    assert (texts(corpus.test), corpus.source.split) == (["c"], "train and dev, as the data has them")
    (tmp_path / "train.csv").write_text("text,label\nc,y\n")
    with pytest.raises(InputError, match=r"holds train.csv and train.jsonl; keep one file for the split train"):
        load_corpus(tmp_path)


# What a model is asked


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_language_model(write_model(tmp_path_factory.mktemp("model") / "gpt2", "gpt2"))


@pytest.fixture(scope="module")
def leaking(tmp_path_factory):
    """Every test row also stands in train, some with other blanks."""
    folder = write_corpus(tmp_path_factory.mktemp("data") / "own")
    lines = (folder / "test.jsonl").read_text()
    with (folder / "train.jsonl").open("a") as file:
        file.write(lines.replace('{"text": "', '{"text": " ') + lines)
    return load_corpus(folder)


@pytest.mark.parametrize("settings", [{}, {"balanced": False}, {"shorten": True, "longest": 8}])
def test_no_question_stands_among_its_own_demonstrations(model, leaking, settings):
    bench = set_up(model, leaking, TEMPLATE, Seed(0), shots=3, items=12, **settings)
    asked = {" ".join(text.split()) for text in bench.texts}
    for number in range(20):
        shown = {" ".join(row.text.split()) for row in bench.demonstrate(number, 3)}
        assert not shown & asked
    assert exclusion_counts(bench.corpus.excluded)["train"]["also in test"] >= 20
    shared = next(row.id for row in bench.corpus.excluded if row.reason == "also in test")
    with pytest.raises(InputError, match=f"the train row '{shared}' is left out: it is also in test"):
        replace(bench, pinned=(shared,)).demonstrate(0, 1)


def test_without_screening_questions_would_stand_among_their_demonstrations(leaking):
    asked = {" ".join(text.split()) for text in texts(leaking.test)}
    shown = [leaking.nested(Seed(0) / number, 3) for number in range(20)]
    assert sum(bool(asked & {" ".join(row.text.split()) for row in rows}) for rows in shown) > 10


def test_texts_that_are_cut_to_the_same_beginning_are_one(model):
    rows = rows_of(*((f"the film {word} {'and' * 50}", ("fact", "view")[i % 2]) for i, word in enumerate(WORDS)))
    corpus = Corpus("long", (*rows, *rows_of(("dull", "fact"), ("joy", "view"))), rows_of(("plot", "fact")))
    bench = set_up(model, corpus, TEMPLATE, Seed(0), shots=2, items=1, shorten=True, longest=3)
    assert bench.cut == len(WORDS)
    assert exclusion_counts(bench.corpus.excluded) == {"train": {"with two labels": len(WORDS)}}
    assert "14 texts cut to 3 tokens" in data_notes(bench)


def test_what_is_left_out_stands_in_the_record(model, leaking):
    bench = set_up(model, leaking, TEMPLATE, Seed(0), shots=2, items=4, longest=10)
    about = bench.about()
    assert about["source"] == {
        "texts": ("text",),
        "label": "label",
        "split": "train and test, as the data has them",
    }
    assert about["longest"] == 10
    assert about["excluded"]["train"].keys() == {"also in test", "too long"}
    assert sum(about["excluded"]["train"].values()) == 48 - len(bench.corpus.train)
    first, second, third = data_notes(bench)
    assert first == f"data own: {len(bench.corpus.train)} train rows and {len(bench.corpus.test)} test rows"
    assert second == "texts in text, labels in label; train and test, as the data has them"
    assert third.startswith("left out: 24 train rows also in test, ")
    assert third.endswith(f"too long (of more than {about['longest']} tokens)")
