"""A template for labels that none is made for, and templates as TOML, to be shown, kept and changed."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path

from insitu.errors import InputError
from insitu.language.texts.corpora import Corpus
from insitu.language.texts.templates import TEMPLATES, Template
from insitu.storage import write_atomically

__all__ = ["fits", "propose_template", "save_templates", "template_toml", "usual_template"]


def usual_template(corpus: Corpus) -> tuple[Template, bool]:
    """The template that is called like a corpus, if it fits, or a proposed one; and whether it is proposed."""
    own = TEMPLATES.get(corpus.name)
    return (own, False) if own is not None and fits(own, corpus) else (propose_template(corpus), True)


def fits(template: Template, corpus: Corpus) -> bool:
    """Whether a template has a word for every label and is made for single texts or pairs as the corpus holds them."""
    return set(corpus.labels) <= set(dict(template.words)) and bool(template.pair) == bool(corpus.train[0].hypothesis)


def propose_template(corpus: Corpus) -> Template:
    """A plain template whose words are the labels, underscores written as blanks.

    Example:
        >>> from insitu.language import Labelled
        >>> rows = (Labelled("2 + 2 = 4", "true"), Labelled("2 + 2 = 5", "not_true"))
        >>> print(propose_template(Corpus("sums", rows, rows)).prompt("1 + 1 = 2", rows[1:]))
        Text: 2 + 2 = 5
        Label: not true
        <BLANKLINE>
        Text: 1 + 1 = 2
        Label:
    """
    words = {label: " ".join(label.replace("_", " ").split()) for label in corpus.labels}
    if "" in words.values() or len(set(words.values())) < len(words):
        words = {label: label for label in corpus.labels}
    if corpus.train[0].hypothesis:
        return Template("First: ", "Label:", tuple(words.items()), pair="{premise}\nSecond: {hypothesis}")
    return Template("Text: ", "Label:", tuple(words.items()))


def template_toml(name: str, template: Template) -> str:
    """A template as a table of a TOML file; :func:`~insitu.language.texts.templates.read_templates` reads it back.

    Example:
        >>> print(template_toml("own", Template("Review: ", "Sentiment:", (("neg", "bad"), ("pos", "good")))))
        [own]
        question = "Review: "
        answer = "Sentiment:"
        words = { neg = "bad", pos = "good" }
    """
    lines = [f"[{key(name)}]"]
    for field in dataclasses.fields(template):
        value = getattr(template, field.name)
        if field.name != "words" and value != field.default:
            lines.append(f"{field.name} = {basic_string(value)}")
    words = ", ".join(f"{key(label)} = {basic_string(word)}" for label, word in template.words)
    return "\n".join([*lines, f"words = {{ {words} }}"])


def key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else basic_string(name)


def basic_string(text: str) -> str:
    """Text between quotes. TOML escapes what JSON does, and one character more."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def save_templates(path: Path, templates: Mapping[str, Template]) -> None:
    """Write templates as a TOML file; one that holds the same stays.

    Raises:
        InputError: If a file is there that holds something else.
        StorageError: If it cannot be written.
    """
    content = "\n\n".join(template_toml(name, template) for name, template in templates.items()) + "\n"
    if path.exists() and path.read_bytes() != content.encode():
        raise InputError(f"{path} is there already and holds something else; save the template under another name.")
    write_atomically(path, content.encode())
