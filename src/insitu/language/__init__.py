"""Pretrained language models: reading demonstrations in the context against training on them."""

from insitu.language.corpora import BUNDLED_CORPORA, Corpus, Labelled, draw_orders, load_corpus
from insitu.language.fine_tuning import fine_tune, zero_shot
from insitu.language.in_context import Weights, in_context, next_token_distributions
from insitu.language.masking import Attention, prefix_lengths, prefix_mask
from insitu.language.pretrained import BUNDLED_MODELS, LanguageModel, load_language_model
from insitu.language.successors import (
    conflicting_repeats,
    rollout_errors,
    shuffled_windows,
    text_windows,
    unit_embeddings,
)
from insitu.language.templates import TEMPLATES, Template

__all__ = [
    "BUNDLED_CORPORA",
    "BUNDLED_MODELS",
    "TEMPLATES",
    "Attention",
    "Corpus",
    "Labelled",
    "LanguageModel",
    "Template",
    "Weights",
    "conflicting_repeats",
    "draw_orders",
    "fine_tune",
    "in_context",
    "load_corpus",
    "load_language_model",
    "next_token_distributions",
    "prefix_lengths",
    "prefix_mask",
    "rollout_errors",
    "shuffled_windows",
    "text_windows",
    "unit_embeddings",
    "zero_shot",
]
