"""Patched states, trainings over steps, models that read interleaved tokens, and the function that asks and names."""

import json

import pytest
import torch
from tests.examples import close
from tests.few_families import few_families as few_families

from insitu import InputError, Prompt, Seed
from insitu.identification.black_box import identify_model, interleaved
from insitu.identification.diagnostics import Plan
from insitu.identification.families import FAMILIES, NOT_FITTED
from insitu.identification.patching import patched_answers, patching, patching_figure
from insitu.identification.scoring import predicted
from insitu.identification.trajectories import identify_training
from insitu.kinds import kinds_below
from insitu.learners import Learner, learner
from insitu.models import Decoder, DecoderArchitecture, Transformer, TransformerArchitecture, gradient_descent
from insitu.report.folder import build_pages
from insitu.tasks import Gaussian, LinearRegression

pytestmark = pytest.mark.usefixtures("as_users_run")
PROMPT = LinearRegression(Gaussian(3)).sample(Seed(0), 40, 8, 2).prompt
DONOR = LinearRegression(Gaussian(3)).sample(Seed(1), 40, 8, 2).prompt


def networks():
    decoder = Decoder(DecoderArchitecture(dim=3, points=9, width=16, layers=2, heads=2)).double()
    transformer = Transformer(TransformerArchitecture(dim=3, layers=2)).double()
    for network in (decoder, transformer):
        network.initialise(Seed(2))
    return [gradient_descent(3, 3, 0.2), decoder, transformer]


@pytest.mark.parametrize("network", networks(), ids=lambda n: type(n).__name__)
def test_a_patch_before_the_first_layer_moves_the_query_and_after_the_last_one_the_answer(network):
    with torch.no_grad():
        moved = network.predict(Prompt(PROMPT.xs, PROMPT.ys, DONOR.queries))
        close(patched_answers(network, PROMPT, DONOR, 0), moved)
        close(patched_answers(network, PROMPT, DONOR, network.architecture.layers), network.predict(DONOR))
        # Nothing that was patched stays.
        close(patched_answers(network, PROMPT, PROMPT, 1), network.predict(PROMPT))


def test_the_weight_passes_from_the_own_context_to_the_donors():
    layers = patching(gradient_descent(3, 3, 0.2), PROMPT, DONOR)
    assert [round(w.value, 6) for w in layers[0].weights] == [0, 1, 0, 0]
    assert [round(w.value, 6) for w in layers[-1].weights] == [0, 0, 0, 1]
    own = [layer.weights[1].value for layer in layers]
    assert own == sorted(own, reverse=True)
    assert len(patching_figure(layers, layers).panels) == 2


@pytest.mark.parametrize(
    ("donor", "layer", "message"),
    [
        (Prompt(PROMPT.xs, PROMPT.ys, PROMPT.queries[:, :1]), 0, "queries of one shape"),
        (DONOR, 9, "between 0 and 3; got 9"),
    ],
)
def test_what_cannot_be_patched_is_refused(donor, layer, message):
    with pytest.raises(InputError, match=message):
        patched_answers(gradient_descent(3, 3, 0.2), PROMPT, donor, layer)


def test_a_training_is_a_path_from_one_learner_to_another():
    steps = [(1, learner("GradientDescent(steps=1, rate=0.3)")), (10, learner("LeastSquares()"))]
    found = identify_training(
        list(reversed(steps)), Plan(dim=2, points=(2, 6), count=16), Seed(0), references=(steps[0][1], steps[1][1])
    )
    assert [m.step for m in found.moments] == [1, 10]
    assert found.phases == ("GradientDescent", "LeastSquares")
    assert [round(m.content["share"]["value"], 6) for m in found.moments] == [0, 1]
    assert len(found.figure().panels) == 3
    told = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert [row["verdict"] for row in told["checkpoints"]] == ["indistinguishable"] * 2
    assert "GradientDescent > LeastSquares" in repr(found)
    with pytest.raises(InputError, match="no checkpoint"):
        identify_training([], Plan(dim=2), Seed(0))


@pytest.mark.usefixtures("few_families")
def test_a_training_is_identified_in_sittings(tmp_path):
    steps = [(1, learner("GradientDescent(steps=1, rate=0.3)")), (10, learner("LeastSquares()"))]
    plan = Plan(dim=2, points=(2, 6), count=16)

    def stop(what):
        if what == "step 10":
            raise KeyboardInterrupt

    whole = identify_training(steps, plan, Seed(0))
    with pytest.raises(KeyboardInterrupt):
        identify_training(steps, plan, Seed(0), folder=tmp_path, tell=stop)
    (first,) = (tmp_path / "records").iterdir()
    written = first.stat().st_mtime_ns
    again = identify_training(steps, plan, Seed(0), folder=tmp_path, resume=True)
    assert again.as_json() == whole.as_json()
    assert (str(again), again.figure()) == (str(whole), whole.figure())
    assert first.stat().st_mtime_ns == written
    assert build_pages(tmp_path).pages[0].name == "training.html"
    other = identify_training(steps, plan, Seed(1), folder=tmp_path, resume=True)
    assert other.as_json() != whole.as_json()
    assert len(list((tmp_path / "records").iterdir())) == 4


def test_interleaved_tokens_are_read_in_their_order():
    """A model of tokens that takes a step of descent by hand, one sequence after the other."""

    def model(tokens):
        rows = []
        for sequence in tokens:
            xs, ys, query = sequence[:-1:2], sequence[1::2, :1], sequence[-1]
            out = torch.zeros(len(sequence))
            out[-1] = (query @ (xs.mT @ ys) / len(xs)).item()
            rows.append(out)
        return torch.stack(rows)

    function = interleaved(model)
    wanted = predicted(learner("GradientDescent(steps=1, rate=1.0)"), PROMPT)
    close(function(PROMPT.xs, PROMPT.ys, PROMPT.queries).double(), wanted, tolerance=1e-5)


def test_a_function_of_arrays_is_asked_and_named():
    def one_step(xs, ys, queries):
        return (queries @ (xs.swapaxes(1, 2) @ ys) / xs.shape[1])[..., 0]

    found = identify_model(one_step, Plan(dim=2, points=(2, 6), count=16), Seed(0))
    assert (found.verdict, found.best.learner) == ("indistinguishable", learner("GradientDescent(steps=1, rate=1.0)"))


def test_every_learner_has_a_family_or_a_reason():
    fitted = {type(family.example).__name__ for family in FAMILIES}
    assert fitted | set(NOT_FITTED) == set(kinds_below(Learner))
    assert not fitted & set(NOT_FITTED)
