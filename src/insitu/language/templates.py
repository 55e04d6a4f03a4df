r"""How a labelled text is put into words.

The boundary between a prompt and its answer is where tokenisers surprise: the context ends *without* a space, the
label word begins with one, and the token that answers is found by encoding both together and taking what stands
behind the context. So the same token is asked for in a prompt, in a demonstration and in fine-tuning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from insitu.errors import InputError, near_matches
from insitu.language.corpora import Labelled

__all__ = ["TEMPLATES", "Template"]

Encode = Callable[[str], list[int]]


@final
@dataclass(frozen=True)
class Template:
    r"""The words around a text and its label.

    Args:
        question: What stands before the text.
        answer: What stands before the label word, on a line of its own; it does not end in a space.
        words: Label and label word, one pair for each label; the words begin without a space.
        instruction: What stands before everything else.
        separator: What stands between two demonstrations.

    Raises:
        InputError: If the answer ends in white space, or a word is empty or begins with it.

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

    def __post_init__(self) -> None:
        if self.answer != self.answer.rstrip():
            raise InputError(
                f"Template: answer must not end in white space, which belongs to the label word; got {self.answer!r}."
            )
        for label, word in self.words:
            if not word or word != word.lstrip():
                raise InputError(
                    f"Template: the word of {label!r} must begin with a letter (the space is added); got {word!r}."
                )

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
        shown = [f"{self._ask(d.text)} {self.word(d.label)}" for d in demonstrations]
        start = [self.instruction] if self.instruction else []
        return "".join(part + self.separator for part in (*start, *shown))

    def label_tokens(self, encode: Encode, prompt: str) -> dict[str, int]:
        """The token that answers a prompt with each label: the first one of its word.

        Args:
            encode: A tokeniser.
            prompt: A prompt that :meth:`prompt` made.

        Raises:
            InputError: If two words share their first token, or a word changes the tokens of the prompt.
        """
        context = encode(prompt)
        tokens: dict[str, int] = {}
        for label, word in self.words:
            whole = encode(f"{prompt} {word}")
            if whole[: len(context)] != context or len(whole) == len(context):
                raise InputError(
                    f"Template: with this tokeniser the word {word!r} changes the tokens of the prompt before it, so "
                    f"no token answers. End the answer {self.answer!r} in another sign."
                )
            token = whole[len(context)]
            if token in tokens.values():
                raise InputError(
                    f"Template: with this tokeniser the words {', '.join(w for _, w in self.words)} do not differ in "
                    f"their first token; {word!r} is taken apart into {whole[len(context) :]}. Choose other words."
                )
            tokens[label] = token
        return tokens

    def _ask(self, text: str) -> str:
        return f"{self.question}{text}\n{self.answer}"


TEMPLATES = {
    # The format of Lu et al. (2022). With the bundled tokeniser both words are taken apart, and differ in their
    # first token: " s|ubjective" and " o|bjective".
    "subj": Template("Input: ", "Type:", (("objective", "objective"), ("subjective", "subjective"))),
}
