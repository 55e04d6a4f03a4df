"""Templates in files, pairs, ids, data sets of the hub, and texts that are too long."""

import json
from types import SimpleNamespace

import pytest

from insitu.errors import InputError
from insitu.language import TEMPLATES, Corpus, Labelled, load_corpus, load_language_model, load_template, read_templates
from insitu.language.measure.bench import set_up
from insitu.language.texts.corpora import relabelled
from insitu.language.texts.hub import corpus_of_splits, load_hub_corpus
from insitu.seed import Seed

PAIRS = [{"premise": f"It rains {i}.", "hypothesis": "It is wet.", "label": "ab"[i % 2]} for i in range(4)]


@pytest.fixture
def pairs(tmp_path):
    for part in ("train", "test"):
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    return load_corpus(tmp_path)


def test_every_template_of_the_package_asks_and_answers():
    for name, template in TEMPLATES.items():
        label = template.words[0][0]
        asked = template.prompt("TEXT", [Labelled("SHOWN", label)])
        assert asked.endswith(template.answer), name
        assert f"SHOWN{template.between}{template.answer} {template.words[0][1]}{template.separator}" in asked


def test_pairs_become_one_text(pairs):
    template = load_template("rte")
    own = type(template)(template.question, template.answer, (("a", "True"), ("b", "False")), pair=template.pair)
    dressed = own.dress(pairs)
    assert dressed.train[0].text == "It rains 0.\nquestion: It is wet. True or False?"
    assert [row.id for row in dressed.train] == ["0", "1", "2", "3"]
    with pytest.raises(InputError, match="a row holds a premise and a hypothesis, and the template"):
        type(own)("", "A:", own.words).dress(pairs)
    with pytest.raises(InputError, match="a row holds a single text"):
        load_template("rte").renamed({"entailment": "x", "not_entailment": "y"}).dress(
            Corpus("x", (Labelled("a", "entailment"), Labelled("b", "not_entailment")), (Labelled("c", "entailment"),))
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("answer = ", "is not TOML"),
        ("[a]\nanswer = 'A:'\n", "words must name a word for each of at least two labels"),
        ("[a]\nwords = {x = 'y', z = 'w'}\n", "the key answer is missing"),
        ("[a]\nanswer = 'A:'\nwords = {x = 'y', z = 'w'}\nqestion = ''\n", "no key 'qestion'; did you mean question"),
        ("[a]\nanswer = 1\nwords = {x = 'y', z = 'w'}\n", "answer must be a string; got 1"),
        ("[a]\nanswer = 'A:'\nwords = {x = 'y', z = 'y'}\n", "two labels have the same word"),
        ("[a]\nanswer = 'A:'\nwords = {x = 'y', z = 'w'}\npair = '{premise}'\n", "pair must contain"),
        ("a = 1\n", "expected a table"),
    ],
)
def test_a_template_file_that_cannot_be_used_says_why(tmp_path, text, message):
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_templates(tmp_path / "t.toml")


def test_one_of_several_templates_of_a_file_is_named(tmp_path):
    table = "answer = 'A:'\nwords = {x = 'y', z = 'w'}\n"
    (tmp_path / "t.toml").write_text(f"[a]\n{table}[b]\n{table}")
    assert load_template(f"{tmp_path}/t.toml:b").answer == "A:"
    with pytest.raises(InputError, match="has the templates a, b; name one"):
        load_template(tmp_path / "t.toml")
    with pytest.raises(InputError, match="no template is called 'sst3'; did you mean sst2"):
        load_template("sst3")


def test_rows_are_named_by_their_own_ids_or_numbers(tmp_path):
    rows = [{"text": "x", "label": "a", "id": "first"}, {"text": "y", "label": "b"}]
    for part in ("train", "test"):
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = load_corpus(tmp_path)
    assert [row.text for row in corpus.named(["1", "first"])] == ["y", "x"]
    with pytest.raises(InputError, match=r"no train row has the id '0'.*ids are like first, 1"):
        corpus.named(["0"])
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({**row, "id": "z"}) + "\n" for row in rows))
    with pytest.raises(InputError, match="two rows have the id 'z'"):
        load_corpus(tmp_path)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_every_beginning_of_nested_demonstrations_is_balanced(count):
    corpus = load_corpus("mr")
    drawn = corpus.nested(Seed(2), 6)
    assert corpus.nested(Seed(2), count) == drawn[:count]
    counts = [sum(row.label == label for row in drawn[:count]) for label in corpus.labels]
    assert max(counts) - min(counts) == count % 2
    assert len(set(drawn)) == 6
    with pytest.raises(InputError, match="602 balanced demonstrations need 301 rows"):
        corpus.nested(Seed(2), 602)


def test_natural_draws_keep_to_the_rows():
    corpus = load_corpus("mr")
    drawn = corpus.demonstrate(Seed(0), 50, balanced=False)
    assert len(set(drawn)) == 50
    assert sum(row.label == "positive" for row in drawn) != 25
    with pytest.raises(InputError, match="601 demonstrations were asked for; there are 600"):
        corpus.demonstrate(Seed(0), 601, balanced=False)


def test_labels_are_flipped_or_drawn():
    shown = [Labelled(str(i), "abc"[i % 3]) for i in range(30)]
    assert relabelled(shown, ("a", "b", "c"), "gold", Seed(0)) == tuple(shown)
    assert [d.label for d in relabelled(shown, ("a", "b", "c"), "flipped", Seed(0))[:3]] == ["b", "c", "a"]
    drawn = relabelled(shown, ("a", "b", "c"), "random", Seed(0))
    assert [d.text for d in drawn] == [d.text for d in shown]
    assert 0 < sum(a.label == b.label for a, b in zip(shown, drawn, strict=True)) < 30


class Split(list):
    """The part of a data set of the hub that is used."""

    def __init__(self, rows, names=None):
        super().__init__(rows)
        self.column_names = list(rows[0])
        self.features = {"label": SimpleNamespace(names=names)}

    def __getitem__(self, key):
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


def test_splits_of_the_hub_become_a_corpus():
    rows = [{"sentence": "x", "label": 0}, {"sentence": "y", "label": 1}]
    hidden = [{"sentence": "x", "label": -1}]
    corpus = corpus_of_splits(
        "d", {k: Split(v, ["no", "yes"]) for k, v in [("train", rows), ("test", hidden), ("validation", rows)]}
    )
    assert [(row.text, row.label, row.id) for row in corpus.test] == [("x", "no", "0"), ("y", "yes", "1")]
    pairs = [{"sentence1": "x", "sentence2": "z", "label": i} for i in range(2)]
    assert corpus_of_splits("d", {"train": Split(pairs), "test": Split(pairs)}).train[1].hypothesis == "z"
    with pytest.raises(InputError, match="has no split train"):
        corpus_of_splits("d", {"test": Split(rows)})
    with pytest.raises(InputError, match="no split test or validation with labels"):
        corpus_of_splits("d", {"train": Split(rows), "test": Split(hidden)})
    with pytest.raises(InputError, match="has the columns words, label"):
        corpus_of_splits("d", {k: Split([{"words": "x", "label": 0}]) for k in ("train", "test")})


def test_the_hub_needs_its_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'insitu\[datasets\]'"):
        load_hub_corpus("glue/sst2")


def test_texts_that_are_too_long_are_left_out_or_cut():
    model = load_language_model("stories260K")
    corpus, template = load_corpus("subj"), load_template("subj")
    bench = set_up(model, corpus, template, Seed(0), shots=4, items=5)
    sizes = {row.id: len(model.encode(row.text)) for row in corpus.train}
    assert 0 < len(bench.corpus.train) < 600
    assert max(sizes[row.id] for row in bench.corpus.train) < 80 < max(sizes.values())
    shown = bench.demonstrate(0, 4)
    assert len(model.encode(template.prompt(bench.texts[0], shown))) <= model.window
    whole = set_up(model, corpus, template, Seed(0), shots=6, items=5, shorten=True)
    assert len(whole.corpus.train) == 600
    texts = {row.id: row.text for row in corpus.train}
    assert all(texts[row.id].startswith(row.text) for row in whole.corpus.train)
    assert len(model.encode(template.prompt(whole.texts[0], whole.demonstrate(0, 6)))) <= model.window
    with pytest.raises(
        InputError, match=r"9 demonstrations a text may have \d tokens.*--shorten|do not fit the window"
    ):
        set_up(model, corpus, template, Seed(0), shots=9, items=5)
