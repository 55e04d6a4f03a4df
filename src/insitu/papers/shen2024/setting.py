"""What the claims start from: a model, its texts, and the ways of training it."""

from dataclasses import dataclass

from insitu.claims import Run
from insitu.language import load_corpus, load_language_model, load_template
from insitu.language.measure.bench import Bench, set_up

__all__ = ["AGNEWS", "BUNDLED", "REDUCED", "Source", "prepare"]


@dataclass(frozen=True)
class Source:
    """Which model reads which texts.

    Args:
        model: A bundled model, a folder or a hub name.
        data: A bundled corpus, a folder or a data set of the hub.
        template: How they are put into words.
        longest: The most tokens that a text may have; none for what fits the window.
    """

    model: str
    data: str
    template: str
    longest: int | None = None


BUNDLED = Source("prose1M", "subj", "subj", 40)
# The model and the data of the paper.
AGNEWS = Source("huggyllama/llama-7b", "hub:fancyzhx/ag_news", "agnews")
REDUCED = "a bundled model of about a million parameters instead of LLaMA-7B; subj instead of AGNews"


def prepare(run: Run, source: Source, *, shots: int, items: int) -> Bench:
    """The model with its questions; a hub name is fetched where it is not on this machine."""
    model = load_language_model(source.model, device=run.device, download="/" in source.model)
    corpus, template = load_corpus(source.data), load_template(source.template)
    return set_up(model, corpus, template, run.seed, shots=shots, items=items, longest=source.longest)
