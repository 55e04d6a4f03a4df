"""The state of the explorer: what it takes, and the link that reproduces it."""

from urllib.parse import parse_qsl

import pytest

from insitu import InputError
from insitu.explorer import PANELS, PRESETS, State
from insitu.explorer.state import CONTROLS

STATES = [*PRESETS.values(), State(task="sigmoid", mask="prefix", seed=7, trained=9, noise=0.35)]


@pytest.mark.parametrize("state", STATES, ids=repr)
def test_a_link_reproduces_the_state(state):
    assert State.from_query(dict(parse_qsl(state.query))) == state


def test_a_link_that_forgets_a_control_is_noticed():
    state = State(depth=3, noise=0.5)
    words = dict(parse_qsl(state.query))
    assert words.keys() == {"depth", "noise"}
    del words["noise"]
    assert State.from_query(words) != state


def test_every_field_has_a_control_and_starts_inside_it():
    assert CONTROLS.keys() == vars(State()).keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"dept": "3"}, "there is no control 'dept'; did you mean depth"),
        ({"depth": "deep"}, "depth must be a number; got 'deep'"),
        ({"depth": "41"}, r"depth must be a whole number from 1 to 40; got 41"),
        ({"depth": "2.5"}, r"depth must be a whole number from 1 to 40; got 2.5"),
        ({"rate": "nan"}, r"rate must be a number from 0.05 to 6.4; got nan"),
        ({"rate": "-1"}, r"rate must be a number from 0.05 to 6.4; got -1.0"),
        ({"mask": "none"}, "mask must be 'prefix' or 'causal'; got 'none'"),
        ({"task": "cubic"}, "task must be 'uniform', 'normal' or 'sigmoid'; got 'cubic'"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_what_cannot_be_shown_is_refused(words, message):
    with pytest.raises(InputError, match=message):
        State.from_query(words)


@pytest.mark.parametrize("name", list(PANELS))
def test_controls_that_a_panel_ignores_do_not_matter_to_it(name):
    panel = PANELS[name]
    small = State(dim=3, points=6, depth=3, noise=0.3)
    moved = {"trained": 9, "mask": "prefix", "dim": 5, "depth": 4, "rate": 0.9, "noise": 0.1}
    for ignored in panel.ignores:
        other = State(**(vars(small) | {ignored: moved[ignored]}))
        assert (panel.look(other).curves, panel.look(other).sentence) == (
            panel.look(small).curves,
            panel.look(small).sentence,
        )
