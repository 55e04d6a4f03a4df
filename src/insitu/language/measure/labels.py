"""How much the labels of demonstrations matter: true ones, random ones, wrong ones, and ones of another name.

References:
    Min et al., "Rethinking the role of demonstrations: what makes in-context learning work?" (EMNLP 2022). Wei et al.,
    "Larger language models do in-context learning differently" (2023).
"""

import functools
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.language import Labelled, Reader, Template, read, relabelled
from insitu.language.measure.bench import Bench
from insitu.language.measure.unfinished import NOWHERE, Unfinished

__all__ = ["LABELS", "NONE", "RENAMED", "label_accuracies"]

LABELS = ("gold", "random", "flipped")
RENAMED, NONE = "renamed", "none"
# Words that say nothing of any task.
NEUTRAL = ("foo", "bar", "baz", "qux", "quux", "corge")


def label_accuracies(
    bench: Bench, sets: int, shots: int, kept: Unfinished = NOWHERE
) -> Mapping[str, Float[Tensor, " set"]]:
    """The accuracy among the label words after demonstrations, by what labels these carry.

    *gold*: their own. *random*: drawn evenly among all. *flipped*: never their own. *renamed*: their own, as words that
    say nothing of the task. *none*: no demonstrations.

    Args:
        bench: The model with its questions.
        sets: How many demonstration sets; the same texts under every kind of label.
        shots: How many demonstrations each holds.
        kept: Where the accuracies of a set are kept between sittings.
    """
    reader = Reader(bench.model)
    words = dict(zip((label for label, _ in bench.template.words), NEUTRAL, strict=False))
    renamed = bench.template.renamed(words)

    def accuracy(shown: Sequence[Labelled], template: Template = bench.template) -> Tensor:
        answers = read(bench.model, template, shown, bench.texts, reader=reader, batch=bench.batch)
        return (answers.labels.argmax(-1) == bench.right).double().mean()

    def of_set(number: int) -> dict[str, Tensor]:
        shown = bench.demonstrate(number, shots)
        place = bench.seed / "set" / number / "labels"
        row = {kind: accuracy(relabelled(shown, bench.corpus.labels, kind, place / kind)) for kind in LABELS}
        return {**row, RENAMED: accuracy(shown, renamed), NONE: zero}

    zero = kept.piece("zero-shot").once(Tensor, lambda: accuracy(()))
    rows = [kept.piece(f"set {i}").once(dict, functools.partial(of_set, i)) for i in range(sets)]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
