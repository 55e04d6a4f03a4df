"""The linear fit of a window's embeddings by NumPy, and repetition by a loop over the definition."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from insitu.errors import InputError
from insitu.language import (
    conflicting_repeats,
    load_language_model,
    rollout_errors,
    shuffled_windows,
    text_windows,
    unit_embeddings,
)
from insitu.seed import Seed

WINDOWS = Seed(0).integers(6, 60, 5)


def test_rollout_errors_by_numpy():
    embeddings = Seed(1).normal(6, 8)
    found = rollout_errors(embeddings[WINDOWS])
    for window, error in zip(WINDOWS, found, strict=True):
        s = embeddings[window].numpy()
        fitted, *_ = np.linalg.lstsq(s[:-1], s[1:], rcond=None)
        state, total = s[0], 0.0
        for t in range(1, 5):
            state = state @ fitted
            total += ((state - s[t]) ** 2).sum()
        assert error.item() == pytest.approx(total / 40, abs=1e-12)


def test_conflicts_by_a_loop_are_where_the_fit_fails():
    flags = conflicting_repeats(WINDOWS)
    for window, flag in zip(WINDOWS.tolist(), flags.tolist(), strict=True):
        successors = {}
        for now, after in pairwise(window):
            successors.setdefault(now, set()).add(after)
        assert flag == any(len(found) > 1 for found in successors.values())
    assert 5 < flags.sum() < 55
    assert torch.equal(rollout_errors(Seed(1).normal(6, 8)[WINDOWS]) > 1e-12, flags)
    # In too few dimensions tokens are dependent, and the fit fails without any repeat.
    assert (rollout_errors(Seed(1).normal(6, 2)[WINDOWS])[~flags] > 1e-12).any()


def test_shuffling_keeps_the_tokens():
    shuffled = shuffled_windows(WINDOWS, Seed(2))
    assert torch.equal(shuffled.flatten().sort().values, WINDOWS.flatten().sort().values)
    assert not torch.equal(shuffled, WINDOWS)


def test_windows_of_the_bundled_model():
    model = load_language_model("stories260K")
    windows = text_windows(model, ["once upon a time", "there was a dog"], size=3)
    tokens = model.encode("once upon a time")[1:] + model.encode("there was a dog")[1:]
    assert windows.flatten().tolist() == tokens[: len(tokens) // 3 * 3]
    norms = unit_embeddings(model).norm(dim=1)
    assert ((norms - 1).abs() < 1e-12).logical_or(norms == 0).all()
    with pytest.raises(InputError, match="a window needs 50"):
        text_windows(model, ["short"], size=50)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: rollout_errors(torch.ones(2, 1, 3)), "at least two entries; got 1"),
        (lambda: rollout_errors(torch.full((2, 3, 3), torch.nan)), "NaN"),
    ],
)
def test_fits_refuse(make, match):
    with pytest.raises(InputError, match=match):
        make()
