"""The samples of Sander et al.'s sequences: computed in parts that fit into memory, with the numbers of the whole."""

import pytest
import torch

from insitu.papers.sander2024.steps import CONTEXTS, lagged_attention, parts, sequences, sums, unit_steps
from insitu.seed import Seed

SEED = Seed(0) / "parts"


def steps_by_moment(sequence):
    """One step of rate 1 at every length, by the running sum of s_t s_{t-1}^* alone."""
    moment, answers = 0, []
    for t in range(1, sequence.shape[1] - 1):
        moment = moment + sequence[:, t, :, None] * sequence[:, t - 1, None].conj()
        answers.append((moment @ sequence[:, t, :, None])[..., 0])
    return torch.stack(answers, dim=1)


@pytest.mark.parametrize("context", CONTEXTS)
def test_steps_in_parts_are_those_of_a_running_moment(context):
    whole = sequences(SEED, context, 4, 12, batch=300)
    torch.testing.assert_close(unit_steps(whole), steps_by_moment(whole), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("size", [1, 7, 50])
def test_the_size_of_the_parts_changes_no_sequence(context, size):
    drawn = list(parts(SEED, context, 4, 6, batch=50, size=size))
    assert max(map(len, drawn)) <= size
    torch.testing.assert_close(torch.cat(drawn), sequences(SEED, context, 4, 6, batch=50), rtol=1e-13, atol=1e-13)


def test_steps_that_see_the_answer_are_noticed():
    """The saboteur: no causal mask."""
    whole = sequences(SEED, "orthogonal", 4, 6, batch=3)
    keys, values = whole[:, :-2], whole[:, 1:-1]
    assert (lagged_attention(whole) - (values @ keys.mH) @ values).abs().max() > 0.1


def test_sums_over_parts_are_those_of_all_sequences():
    whole = sequences(SEED, "unitary", 4, 9, batch=40)
    answers, targets = steps_by_moment(whole), whole[:, 2:]
    along, power, errors = sums(whole, 0.1)
    torch.testing.assert_close(along, (answers.conj() * targets).real.flatten(1).sum(1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(power, torch.linalg.vector_norm(answers.flatten(1), dim=1) ** 2, rtol=1e-12, atol=0)
    by_norm = torch.linalg.vector_norm((0.1 * answers - targets).flatten(1), dim=1) ** 2
    torch.testing.assert_close(errors, by_norm, rtol=1e-12, atol=0)
