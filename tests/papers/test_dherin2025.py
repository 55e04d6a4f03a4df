"""How contexts and other queries are drawn for the claims on changes of weights."""

import pytest

from insitu.claims import Run
from insitu.errors import InputError
from insitu.language import load_language_model
from insitu.papers.dherin2025 import Patches, contexts_of, with_others
from insitu.seed import Seed

SETTING = Patches("stories260K", "mr", contexts=6, size=5, queries=3)


def test_no_two_contexts_have_one_query_and_each_is_asked_with_others():
    texts = contexts_of(Run(SETTING, Seed(0)), load_language_model("stories260K"))
    assert [len(text) for text in texts] == [6] * 6
    assert len({text[-1] for text in texts}) == 6
    for text, others in with_others(texts, 3):
        assert len(set(others)) == 3
        assert text[-1] not in others


def test_too_few_texts_that_end_differently_are_refused():
    many = Patches("stories260K", "mr", contexts=10_000, size=5, queries=3)
    with pytest.raises(InputError, match=r"10000 contexts with 3 other queries .*; mr has \d+"):
        contexts_of(Run(many, Seed(0)), load_language_model("stories260K"))
