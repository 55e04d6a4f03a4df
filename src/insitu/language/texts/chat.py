"""Templates in the turns of a conversation, for models that were tuned on those."""

import itertools
from dataclasses import replace
from typing import Any

from insitu.errors import InputError
from insitu.language.texts.templates import Template

__all__ = ["has_turns", "in_turns"]

# What stands for the contents of turns while a chat template is taken apart; no template holds it.
MARKS = ("\ue000user\ue000", "\ue000assistant\ue000", "\ue000next\ue000")


def in_turns(template: Template, tokenizer: Any) -> Template:
    """The same template with every question as a turn of the user, and every answer as one of the assistant.

    The answer's beginning, such as *Sentiment:*, opens the assistant's turn, so the label word stands behind it as in
    any other template.

    Args:
        template: The template.
        tokenizer: A tokeniser with a chat template.

    Raises:
        InputError: If there is no chat template, or its turns do not all have one form.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise InputError("chat: this model's tokeniser has no chat template; leave out --chat.")
    before, between, after, end = pieces(tokenizer)
    user = common_end(before, after)
    system, separator = before.removesuffix(user), after.removesuffix(user)
    if end != between or not user or not (system.endswith(separator) or not system):
        raise InputError(
            "chat: the chat template of this model's tokeniser does not put every turn into the same words, so no "
            f"prompt can be made of it: {before + between + after + end!r}. Leave out --chat."
        )
    start = "\n".join(filter(None, (system.removesuffix(separator), template.instruction)))
    question = user + template.question
    return replace(template, question=question, between=between, separator=separator, instruction=start)


def has_turns(template: Template, tokenizer: Any) -> bool:
    """Whether a template is one of turns, as :func:`in_turns` makes it."""
    return bool(getattr(tokenizer, "chat_template", None)) and template.between == pieces(tokenizer)[1]


def pieces(tokenizer: Any) -> tuple[str, str, str, str]:
    """What a chat template writes before a question, between it and its answer, before the next one and after it."""
    roles = ("user", "assistant", "user")
    turns = [{"role": role, "content": mark} for role, mark in zip(roles, MARKS, strict=True)]
    rest = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    found = []
    for mark in MARKS:
        piece, _, rest = rest.partition(mark)
        found.append(piece)
    # A tokeniser that begins every text with a token of its own writes it there itself.
    if tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]:
        found[0] = found[0].removeprefix(tokenizer.bos_token)
    return found[0], found[1], found[2], rest


def common_end(one: str, other: str) -> str:
    """The longest text with which both end."""
    alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(reversed(one), reversed(other), strict=False))
    return one[len(one) - sum(1 for _ in alike) :]
