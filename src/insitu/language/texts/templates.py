r"""How a labelled text is put into words.

The boundary between a prompt and its answer is where tokenisers surprise: the context ends *without* a space, the
label word begins with one (or on a new line, or at once), and the tokens that answer are found by encoding both
together and taking what stands behind the context. So the same tokens are predicted in a prompt, in a demonstration and
in fine-tuning.
"""

import dataclasses
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from insitu.errors import InputError, near_matches
from insitu.language.texts.corpora import Corpus, Labelled

__all__ = ["TEMPLATES", "Template", "load_template", "read_templates"]

Encode = Callable[[str], list[int]]


@final
@dataclass(frozen=True)
class Template:
    r"""The words around a text and its label.

    Args:
        question: What stands before the text.
        answer: What stands before the label word; it does not end in a space.
        words: Label and label word, one pair for each label; the words begin without a space.
        instruction: What stands before everything else.
        separator: What stands between two demonstrations.
        between: What stands between the text and the answer.
        space: What stands between the answer and the label word: a space, a line break, or nothing at all, as in
            languages without spaces.
        pair: How a premise and a hypothesis become one text, with ``{premise}`` and ``{hypothesis}``; empty where
            texts are single.

    Raises:
        InputError: If the answer ends in white space, a word is empty or begins with it, two labels have the same
            word, or a pair does not name both parts.

    Example:
        >>> template = Template("Review: ", "Sentiment:", (("neg", "bad"), ("pos", "good")))
        >>> print(template.prompt("Dull.", [Labelled("A joy.", "pos")]))
        Review: A joy.
        Sentiment: good
        <BLANKLINE>
        Review: Dull.
        Sentiment:
    """

    question: str
    answer: str
    words: tuple[tuple[str, str], ...]
    instruction: str = ""
    separator: str = "\n\n"
    between: str = "\n"
    pair: str = ""
    space: str = " "

    def __post_init__(self) -> None:
        if self.pair and not ("{premise}" in self.pair and "{hypothesis}" in self.pair):
            raise InputError(f"Template: pair must contain {{premise}} and {{hypothesis}}; got {self.pair!r}.")
        if len({word for _, word in self.words}) < len(self.words):
            raise InputError(f"Template: two labels have the same word: {', '.join(w for _, w in self.words)}.")
        if self.answer != self.answer.rstrip():
            raise InputError(
                f"Template: answer must not end in white space, which belongs to the label word; got {self.answer!r}."
            )
        for label, word in self.words:
            if not word or word != word.lstrip():
                raise InputError(
                    f"Template: the word of {label!r} must begin with a letter (what stands before it is the key "
                    f"space); got {word!r}."
                )
        if self.space.strip():
            raise InputError(f"Template: space must be white space or empty; got {self.space!r}. Put it in the answer.")

    def word(self, label: str) -> str:
        """The word of a label.

        Raises:
            InputError: If the label is unknown.
        """
        words = dict(self.words)
        if label not in words:
            raise InputError(f"Template: there is no word for the label {label!r}; {near_matches(label, words)}")
        return words[label]

    def prompt(self, text: str, demonstrations: Sequence[Labelled] = ()) -> str:
        """Ask about a text, after demonstrations in the order given; without any it is the zero-shot prompt."""
        return self.stem(demonstrations) + self._ask(text)

    def stem(self, demonstrations: Sequence[Labelled]) -> str:
        """What comes before the question: the instruction and the demonstrations in the order given."""
        shown = [f"{self._ask(d.text)}{self.space}{self.word(d.label)}" for d in demonstrations]
        start = [self.instruction] if self.instruction else []
        return "".join(part + self.separator for part in (*start, *shown))

    def dress(self, corpus: Corpus) -> Corpus:
        """The corpus with every premise and hypothesis as one text, after a look at its labels.

        Raises:
            InputError: If a label has no word, or the rows are pairs and the template has no form for them or the
                other way round.
        """
        for label in corpus.labels:
            self.word(label)
        for row in (*corpus.train, *corpus.test):
            if bool(row.hypothesis) != bool(self.pair):
                form = "a premise and a hypothesis" if row.hypothesis else "a single text"
                raise InputError(
                    f"corpus {corpus.name!r}: a row holds {form}, and the template is made for the other form (row "
                    f"{row.id!r}); choose another template, or write one with the key pair."
                )
        if not self.pair:
            return corpus
        train, test = (tuple(map(self._joined, rows)) for rows in (corpus.train, corpus.test))
        return dataclasses.replace(corpus, train=train, test=test)

    def _joined(self, row: Labelled) -> Labelled:
        # In one pass, as a text may hold the name of the other part.
        parts = {"{premise}": row.text, "{hypothesis}": row.hypothesis}
        text = re.sub(r"\{premise\}|\{hypothesis\}", lambda found: parts[found.group()], self.pair)
        return dataclasses.replace(row, text=text, hypothesis="")

    def renamed(self, words: Mapping[str, str]) -> "Template":
        """The same template with other label words."""
        return dataclasses.replace(self, words=tuple((label, words[label]) for label, _ in self.words))

    def label_tokens(self, encode: Encode, prompt: str) -> dict[str, int]:
        """The token that answers a prompt with each label: the first one of its word.

        Arguments as :meth:`label_words`.
        """
        return {label: word[0] for label, word in self.label_words(encode, prompt)[1].items()}

    def label_words(self, encode: Encode, prompt: str) -> tuple[list[int], dict[str, list[int]]]:
        """The tokens of a prompt, and those of each label's word behind it.

        Args:
            encode: A tokeniser.
            prompt: A prompt that :meth:`prompt` made.

        Raises:
            InputError: If two words are the same tokens, or a word changes the tokens of the prompt.
        """
        context = encode(prompt)
        words: dict[str, list[int]] = {}
        for label, word in self.words:
            whole = encode(f"{prompt}{self.space}{word}")
            if whole[: len(context)] != context or len(whole) == len(context):
                raise InputError(
                    f"Template: with this tokeniser the word {word!r} changes the tokens of the prompt before it, so "
                    f"no token answers. End the answer {self.answer!r} in another sign, or put another space before "
                    f"the word (now {self.space!r})."
                )
            own = whole[len(context) :]
            if own in words.values():
                raise InputError(
                    f"Template: with this tokeniser the word {word!r} is the same tokens as another of "
                    f"{', '.join(w for _, w in self.words)}: {own}. Choose words that it knows."
                )
            words[label] = own
        return context, words

    def _ask(self, text: str) -> str:
        return f"{self.question}{text}{self.between}{self.answer}"


def read_templates(path: Path) -> dict[str, Template]:
    """The templates of a TOML file, one table each, with the fields of :class:`Template` as keys.

    Raises:
        InputError: If the file cannot be read or a table is not that of a template.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:  # Also nested too deeply, or a number of thousands of digits.
        raise InputError(f"{path} is not TOML that can be read: {error}.") from None
    return {name: from_table(f"{path.name}, [{name}]", table) for name, table in tables.items()}


def from_table(place: str, table: Any) -> Template:
    known = {field.name for field in dataclasses.fields(Template)}
    if not isinstance(table, dict):
        raise InputError(f"{place}: expected a table with the keys {', '.join(sorted(known))}; got {table!r}.")
    for key, value in table.items():
        if key not in known:
            raise InputError(f"{place}: there is no key {key!r}; {near_matches(key, known)}")
        if key != "words" and not isinstance(value, str):
            raise InputError(f"{place}: {key} must be a string; got {value!r}.")
    words = table.get("words")
    if not isinstance(words, dict) or len(words) < 2 or not all(isinstance(word, str) for word in words.values()):
        raise InputError(f"{place}: words must name a word for each of at least two labels; got {words!r}.")
    if "answer" not in table:
        raise InputError(f"{place}: the key answer is missing: what stands before the label word.")
    return Template(**{"question": "", **table, "words": tuple(words.items())})


def load_template(name: str | Path) -> Template:
    """A template by its name, or the only one of a TOML file, or one of several as ``file.toml:name``.

    Raises:
        InputError: If there is none.

    Example:
        >>> load_template("sst2").answer
        'Sentiment:'
    """
    if str(name) in TEMPLATES:
        return TEMPLATES[str(name)]
    file, _, table = str(name).partition(".toml")
    if not file or ".toml" not in str(name):
        raise InputError(
            f"no template is called {str(name)!r}; {near_matches(str(name), TEMPLATES)} An own one stands in a TOML "
            "file with the keys question, answer and words."
        )
    found = read_templates(Path(file + ".toml"))
    chosen = table.removeprefix(":") or (next(iter(found)) if len(found) == 1 else "")
    if chosen not in found:
        raise InputError(f"{file}.toml has the templates {', '.join(found)}; name one as {file}.toml:NAME.")
    return found[chosen]


TEMPLATES = read_templates(Path(__file__).with_name("templates.toml"))
