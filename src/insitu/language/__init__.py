"""Pretrained language models: reading demonstrations in the context against training on them."""

from insitu.language.measure.successors import (
    conflicting_repeats,
    rollout_errors,
    shuffled_windows,
    text_windows,
    unit_embeddings,
)
from insitu.language.models.fetching import fetch_model
from insitu.language.models.fine_tuning import (
    Descent,
    fine_tune,
    fine_tune_together,
    require_trainable,
    runs_at_once,
    zero_shot,
)
from insitu.language.models.forwards import FAST, WHOLE, Shortcuts
from insitu.language.models.in_context import average, calibrated, in_context, next_token_distributions, read
from insitu.language.models.prefix_mask import Attention, prefix_attention, prefix_lengths
from insitu.language.models.pretrained import BUNDLED_MODELS, DEFAULT_MODEL, LanguageModel, load_language_model
from insitu.language.models.reading import Answers, Question, Reader, Weights, pose
from insitu.language.models.registry import PACKAGED_MODELS, PackagedModel, missing_model, packaged_model
from insitu.language.models.self_test import SelfTest, self_test
from insitu.language.models.submodels import attention_parts, select_submodel
from insitu.language.texts.columns import Columns
from insitu.language.texts.corpora import Corpus, Labelled, draw_orders, relabelled
from insitu.language.texts.exclusions import Excluded, exclusion_counts, exclusions_in_words
from insitu.language.texts.loading import BUNDLED_CORPORA, load_corpus
from insitu.language.texts.proposals import propose_template, save_templates, template_toml, usual_template
from insitu.language.texts.screening import screened
from insitu.language.texts.templates import TEMPLATES, Template, load_template, read_templates

__all__ = [
    "BUNDLED_CORPORA",
    "BUNDLED_MODELS",
    "DEFAULT_MODEL",
    "FAST",
    "PACKAGED_MODELS",
    "TEMPLATES",
    "WHOLE",
    "Answers",
    "Attention",
    "Columns",
    "Corpus",
    "Descent",
    "Excluded",
    "Labelled",
    "LanguageModel",
    "PackagedModel",
    "Question",
    "Reader",
    "SelfTest",
    "Shortcuts",
    "Template",
    "Weights",
    "attention_parts",
    "average",
    "calibrated",
    "conflicting_repeats",
    "draw_orders",
    "exclusion_counts",
    "exclusions_in_words",
    "fetch_model",
    "fine_tune",
    "fine_tune_together",
    "in_context",
    "load_corpus",
    "load_language_model",
    "load_template",
    "missing_model",
    "next_token_distributions",
    "packaged_model",
    "pose",
    "prefix_attention",
    "prefix_lengths",
    "propose_template",
    "read",
    "read_templates",
    "relabelled",
    "require_trainable",
    "rollout_errors",
    "runs_at_once",
    "save_templates",
    "screened",
    "select_submodel",
    "self_test",
    "shuffled_windows",
    "template_toml",
    "text_windows",
    "unit_embeddings",
    "usual_template",
    "zero_shot",
]
