"""Regression written as text, what a language model answers to it, and which learner that is."""

from insitu.language.numbers.identify import NumberIdentification, identify_language_model
from insitu.language.numbers.lines import NumberLines
from insitu.language.numbers.plan import NumberPlan
from insitu.language.numbers.reading import NumberAnswers, NumberReader

__all__ = [
    "NumberAnswers",
    "NumberIdentification",
    "NumberLines",
    "NumberPlan",
    "NumberReader",
    "identify_language_model",
]
