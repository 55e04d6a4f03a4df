"""Templates in the turns of a conversation, against what the tokeniser's own chat template writes."""

import sys
from pathlib import Path

import pytest

from insitu.errors import InputError
from insitu.language import Labelled, Template
from insitu.language.texts.chat import has_turns, in_turns

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.language.small_models import tokenizer

TEMPLATE = Template("Review: ", "Sentiment:", (("neg", "bad"), ("pos", "good")))
SHOWN = (Labelled("A joy.", "pos"), Labelled("Dull.", "neg"))
LOOP = "{% for m in messages %}"
CHATS = {
    "system first": "<|im|>system\nBe kind.<|end|>\n"
    + LOOP
    + "<|im|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    + "{% if add_generation_prompt %}<|im|>assistant\n{% endif %}",
    "nothing first": LOOP
    + "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST] "
    + "{% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}",
    "unequal": LOOP + "{{ m['content'] }}{% if loop.first %}!{% endif %} {% endfor %}",
}


def chatting(chat):
    made = tokenizer("Review: Sentiment: bad good")
    made.chat_template = chat
    return made


@pytest.mark.parametrize("chat", ["system first", "nothing first"])
def test_a_prompt_is_what_the_chat_template_writes(chat):
    own = chatting(CHATS[chat])
    turns = []
    for shown in SHOWN:
        turns.append({"role": "user", "content": f"Review: {shown.text}"})
        turns.append({"role": "assistant", "content": f"Sentiment: {TEMPLATE.word(shown.label)}"})
    turns.append({"role": "user", "content": "Review: Warm."})
    for count in (0, 2):
        expected = own.apply_chat_template(turns[4 - 2 * count :], tokenize=False, add_generation_prompt=True)
        found = in_turns(TEMPLATE, own).prompt("Warm.", SHOWN[2 - count :])
        assert found == f"{expected}Sentiment:"
    assert has_turns(in_turns(TEMPLATE, own), own)
    assert not has_turns(TEMPLATE, own)


def test_an_instruction_stands_at_the_start():
    instructed = Template("Review: ", "Sentiment:", TEMPLATE.words, instruction="Judge.")
    made = in_turns(instructed, chatting(CHATS["system first"]))
    assert made.prompt("Warm.").startswith("<|im|>system\nBe kind.\nJudge.<|end|>\n<|im|>user\nReview: Warm.")


def test_turns_of_unequal_form_are_refused():
    with pytest.raises(InputError, match="does not put every turn into the same words"):
        in_turns(TEMPLATE, chatting(CHATS["unequal"]))


def test_a_tokeniser_without_chat_template_is_refused():
    with pytest.raises(InputError, match="has no chat template; leave out --chat"):
        in_turns(TEMPLATE, chatting(None))
