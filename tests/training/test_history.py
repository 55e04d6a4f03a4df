"""What a network was trained on, and what it was on the way, is found again beside it."""

import itertools
import json

import pytest
import torch
from tests.examples import TASKS, load
from tests.training.test_kinds import PLAIN, trained, written

from insitu import InputError
from insitu.models import load_network
from insitu.training.history import Past, load_past, load_steps, save_past

load()


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_every_task_is_stored_and_found_again(task, tmp_path):
    save_past(Past(task, 7), tmp_path)
    found = load_past(tmp_path)
    assert found is not None
    assert (repr(found.task), found.points) == (repr(task), 7)


def test_what_is_not_stored_is_not_known_and_what_is_damaged_is_refused(tmp_path):
    assert load_past(tmp_path) is None
    (tmp_path / "training.json").write_text(json.dumps({"task": {"kind": "Nonsense"}, "points": 3}))
    with pytest.raises(InputError, match=r"does not say what the network was trained on .*Nonsense"):
        load_past(tmp_path)
    save_past(Past(TASKS[0], 7), tmp_path)
    text = (tmp_path / "training.json").read_text()
    (tmp_path / "training.json").write_text(text.replace('"points": 7', '"points": 5'))
    with pytest.raises(InputError, match="does not match its own digest"):
        load_past(tmp_path)
    (tmp_path / "training.json").write_text("[7]")
    with pytest.raises(InputError, match="does not say what the network was trained on"):
        load_past(tmp_path)


def test_a_training_keeps_steps_spaced_by_factors_of_two(tmp_path):
    path = written(tmp_path, PLAIN, "AttentionNetwork", "layers = 1", "steps = 5\nrate = 0.01\nbatch = 4\npoints = 6")
    training, _ = trained(path, tmp_path / "run")
    steps = load_steps(tmp_path / "run")
    assert [done for done, _ in steps] == [1, 2, 4]
    last = load_network(tmp_path / "run" / "network-0")
    weights = [torch.cat([w.flatten() for w in net.state_dict().values()]) for net in (*(n for _, n in steps), last)]
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(weights))
    past = load_past(tmp_path / "run" / "network-0")
    assert past == Past(training.task, 6)
    with pytest.raises(InputError, match="it holds no steps of a network"):
        load_steps(tmp_path / "run" / "network-0" / "steps")


def test_of_several_networks_one_is_to_be_named(tmp_path):
    body = "steps = 1\nrate = 0.01\nbatch = 4\npoints = 6\nstarts = 2"
    trained(written(tmp_path, PLAIN, "AttentionNetwork", "layers = 1", body), tmp_path / "run")
    with pytest.raises(InputError, match=r"those of 2 networks; name one of them: network-0, network-1"):
        load_steps(tmp_path / "run")
    assert [done for done, _ in load_steps(tmp_path / "run" / "network-1")] == [1]
