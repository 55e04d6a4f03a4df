"""Records of pretrainings under either mask: pairs that differ in more than the mask are refused."""

import copy
import json

import pytest

from insitu.claims import Run
from insitu.errors import InputError
from insitu.language.measure.pretraining_history import ACCURACY, LOSS
from insitu.papers.ding2024.pretraining import Pretrainings, histories, missing_pretrainings
from insitu.records import content_digest
from insitu.seed import Seed


def record(mask, seed, loss):
    rows = [{"step": step, LOSS: loss + 1 / step, ACCURACY: [0.4, 0.6]} for step in (10, 20)]
    made = {"kind": "lm pretrain", "key": mask, "recipe": {"seed": seed, "mask": mask, "width": 8}, "rows": rows}
    made |= {"texts": {"training": "a"}, "tokeniser": "b", "asked": {"sets": 2, "items": 50}, "parameters": 1000}
    return made


def write(folder, name, content):
    place = folder / name / "records"
    place.mkdir(parents=True, exist_ok=True)
    (place / "lm-pretrain.json").write_text(json.dumps({**content, "digest": content_digest(content)}))


@pytest.fixture
def folder(tmp_path):
    for seed in (0, 1):
        for mask, loss in (("prefix", 2.0), ("causal", 3.0)):
            write(tmp_path, f"{mask}-{seed}", record(mask, seed, loss + seed))
    return tmp_path


def setting(folder, starts=2, parameters=1000):
    return Pretrainings(str(folder), starts, parameters)


def test_the_records_of_every_start_are_read_by_their_masks(folder):
    found = histories(Run(setting(folder), Seed(0)))
    assert found.steps == (10, 20)
    assert found.loss["prefix"].tolist() == [[2.1, 2.05], [3.1, 3.05]]
    assert found.loss["causal"].tolist() == [[3.1, 3.05], [4.1, 4.05]]
    assert found.accuracy["causal"].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert found.questions == 100


def test_a_folder_without_all_starts_is_missing(folder):
    assert missing_pretrainings(setting(folder)) == ""
    assert "no 6 pretrainings in" in missing_pretrainings(setting(folder, starts=3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["recipe"].update(width=16), r"start 1 differ in width"),
        (lambda r: r.update(tokeniser="c"), r"start 1 differ in tokeniser"),
        (lambda r: r["rows"].pop(), r"start 1 differ in snapshots"),
        (lambda r: r["recipe"].update(mask="causal"), r"start 1 has the masks causal"),
    ],
)
def test_a_pair_that_differs_in_more_than_the_mask_is_refused(folder, change, message):
    changed = copy.deepcopy(record("prefix", 1, 3.0))
    change(changed)
    write(folder, "prefix-1", changed)
    with pytest.raises(InputError, match=message):
        histories(Run(setting(folder), Seed(0)))


def test_damage_and_a_small_model_are_refused(folder):
    with pytest.raises(InputError, match="4,000 parameters are needed; got 1,000"):
        histories(Run(setting(folder, parameters=4000), Seed(0)))
    path = folder / "causal-0" / "records" / "lm-pretrain.json"
    path.write_text(path.read_text().replace("3.1", "2.1"))
    with pytest.raises(InputError, match="is damaged"):
        histories(Run(setting(folder), Seed(0)))
