"""The studies behind the claims about language models, small and for real."""

from dataclasses import replace

import pytest

from insitu.claims import Run
from insitu.language import Descent
from insitu.papers.shen2024.orders import SECOND, order_profiles
from insitu.papers.shen2024.overlaps import OverlapSetting, comparison
from insitu.papers.shen2024.setting import TextSource
from insitu.seed import Seed

STORIES = TextSource("stories260K", "subj", "subj", 30)


@pytest.fixture(scope="module")
def profiles():
    ways = (Descent(5e-3), Descent(5e-3, 1))
    small = replace(SECOND, source=STORIES, sets=2, more=1, shots=2, orders=2, items=2)
    return order_profiles(Run(replace(small, descents=ways, epochs=(1, 2)), Seed(0)))


def test_full_batch_descent_is_stable_to_rounding_while_reading_is_not(profiles):
    assert profiles.worst("gd").max() < 1e-5
    assert profiles.reading.min() > 1e-3
    assert profiles.worst("sgd1").max() > 1e-3
    assert profiles["gd"]["KL from the start"].min() > 0.01


def test_shapes_are_sets_by_epochs(profiles):
    assert profiles["gd"]["Sen"].shape == (2, 2)
    assert profiles["in context"]["Sen"].shape == (3, 1)
    assert len(profiles.reading) == 2
    assert profiles.floors["gd"].max() < 1e-5


def test_the_best_of_training_is_the_best_in_the_mean(tmp_path):
    ways = (Descent(1e-3), Descent(5e-3, part="value:mid"))
    setting = OverlapSetting(STORIES, sets=2, shots=(2, 3), items=3, descents=ways, epochs=(1, 2))
    found = comparison(Run(setting, Seed(0), folder=tmp_path))
    assert found.shots == (2, 3)
    looks = found.measures["gd all 0.001"]["token overlap"][1].mean(0)
    assert found.best("token overlap", 3).mean() == looks.max()
    assert found.trained("value:mid") == ["gd value:mid 0.005"]
    assert found.of("gd value:mid 0.005", "accuracy", 3).shape == (2, 2)  # a part is trained on the most alone
    assert found.reading("in context", "token overlap", 2).tolist() == [1.0, 1.0]
    again = comparison(Run(setting, Seed(0), folder=tmp_path))  # from its records
    assert again.measures["zero-shot"]["accuracy"].equal(found.measures["zero-shot"]["accuracy"])
