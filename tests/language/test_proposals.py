"""Templates that are proposed from labels, and templates that are kept as TOML."""

import random
import tomllib

import pytest

from insitu.errors import InputError
from insitu.language import (
    TEMPLATES,
    Corpus,
    Labelled,
    Template,
    load_corpus,
    load_template,
    propose_template,
    read_templates,
    save_templates,
    template_toml,
    usual_template,
)


def corpus_with(*labels, hypothesis="", name="x"):
    rows = tuple(Labelled(f"text {i}", label, hypothesis) for i, label in enumerate(labels))
    return Corpus(name, rows, rows[:1])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("fact", "own_view"), ["fact", "own view"]),
        (("a b", "a_b"), ["a b", "a_b"]),
        (("0", "1"), ["0", "1"]),
        (("_", "x"), ["_", "x"]),
        (("文", "评"), ["文", "评"]),
    ],
)
def test_labels_become_words(labels, words):
    template = propose_template(corpus_with(*labels))
    assert sorted(word for _, word in template.words) == sorted(words)
    assert {label for label, _ in template.words} == set(labels)
    assert template.dress(corpus_with(*labels)) == corpus_with(*labels)


def test_pairs_get_a_template_for_pairs():
    corpus = corpus_with("yes", "no", hypothesis="second {premise}")
    template, proposed = usual_template(corpus)
    assert proposed
    assert template.dress(corpus).train[0].text == "text 0\nSecond: second {premise}"
    assert template.prompt(template.dress(corpus).train[0].text).startswith("First: text 0\nSecond: second")


def test_a_template_that_is_called_like_the_data_is_taken_if_it_fits():
    assert usual_template(load_corpus("subj")) == (TEMPLATES["subj"], False)
    assert usual_template(corpus_with("objective", "subjective", name="subj")) == (TEMPLATES["subj"], False)
    assert usual_template(corpus_with("objective", "other", name="subj"))[1]
    assert usual_template(corpus_with("objective", "subjective", name="subj", hypothesis="h"))[1]


SIGNS = "aZ_- \"\\\n\t\x00\x1f\x7f{}[]=.#'é文🙂\u2028"


def test_every_template_survives_its_file(tmp_path):
    draw = random.Random(0)

    def text():
        return "".join(draw.choices(SIGNS, k=draw.randint(0, 6)))

    made = dict(TEMPLATES)
    for i in range(200):
        words = tuple((f"{text()}{k}", f"w{text()}{k}") for k in range(3))
        pair = draw.choice(("", "{premise}" + text() + "{hypothesis}"))
        made[f"{text()}{i}"] = Template(text(), text() + ":", words, text(), text(), text(), pair)
    save_templates(tmp_path / "all.toml", made)
    assert read_templates(tmp_path / "all.toml") == made


def test_a_saved_template_is_loaded_and_not_overwritten(tmp_path):
    path = tmp_path / "own.toml"
    template = propose_template(corpus_with("fact", "own view"))
    for _ in range(2):
        save_templates(path, {"my data": template})
    assert load_template(path) == load_template(f"{path}:my data") == template
    with pytest.raises(InputError, match="is there already and holds something else"):
        save_templates(path, {"other": template})
    assert tomllib.loads(template_toml("my data", template))["my data"]["question"] == "Text: "


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000, "a = [1", b"\xff"])
def test_toml_that_cannot_be_read_is_refused(tmp_path, text):
    (tmp_path / "t.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match="is not TOML that can be read"):
        read_templates(tmp_path / "t.toml")


def test_braces_in_a_text_stay():
    template = Template("", "A:", (("a", "x"), ("b", "y")), pair="{premise} ? {hypothesis}")
    rows = tuple(Labelled(f"{{hypothesis}} {{}} {i}", "ab"[i], "{premise}{0}") for i in range(2))
    assert template.dress(Corpus("x", rows, rows[:1])).train[0].text == "{hypothesis} {} 0 ? {premise}{0}"


def test_rows_of_two_forms_are_refused_wherever_they_stand():
    rows = (Labelled("a", "x"), Labelled("b", "y"), Labelled("c", "x", "h", id="7"))
    with pytest.raises(InputError, match=r"a row holds a premise and a hypothesis, .*other form \(row '7'\)"):
        propose_template(corpus_with("x", "y")).dress(Corpus("x", rows, rows[:1]))
