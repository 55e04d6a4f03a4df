"""The front door: what `import insitu` gives, and that any function is a predictor."""

import subprocess
import sys
from multiprocessing import spawn
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tests.examples import REGRESSION, close

import insitu
from insitu import InputError
from insitu.learners import GradientDescent, LeastSquares, Ridge
from insitu.models import gradient_descent, save_network
from insitu.predictor import FunctionPredictor, as_predictor
from insitu.processes import main_hidden, process_context
from insitu.tasks import Gaussian, LinearRegression

TASK = LinearRegression(Gaussian(3), noise=0.5)


def numpy_least_squares(xs, ys, queries):
    return queries @ np.linalg.pinv(xs) @ ys


def torch_least_squares(xs, ys, queries):
    return queries @ torch.linalg.lstsq(xs, ys, driver="gelsd").solution


@pytest.mark.parametrize("function", [numpy_least_squares, torch_least_squares])
def test_a_function_of_either_library_is_a_predictor(function):
    close(as_predictor(function).predict(REGRESSION), LeastSquares().predict(REGRESSION))


def test_answers_without_an_output_axis_are_taken_where_there_is_one_output():
    prompt = TASK.sample(insitu.Seed(0), 3, 7, 2).prompt
    flat = as_predictor(lambda xs, ys, queries: torch_least_squares(xs, ys, queries)[..., 0])
    close(flat.predict(prompt), LeastSquares().predict(prompt))


def test_answers_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"7, 2\); expected \(1, 4, 2\)"):
        as_predictor(lambda xs, ys, queries: ys).predict(REGRESSION)


def test_a_function_that_means_something_else_for_each_library_is_refused():
    ambiguous = FunctionPredictor(lambda xs, ys, queries: 0 * queries[..., :2] + ys.std(1)[:, None])
    with pytest.raises(InputError, match="arrays='torch' or arrays='numpy'"):
        ambiguous.predict(REGRESSION)
    wanted = torch.as_tensor(REGRESSION.ys.numpy().std(1))[:, None].expand(-1, 4, -1)
    close(FunctionPredictor(ambiguous.function, "numpy").predict(REGRESSION), wanted)


def test_the_error_of_a_function_is_its_own():
    def broken(xs, ys, queries):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        as_predictor(broken).predict(REGRESSION)


def test_answers_may_be_a_view_from_behind():
    prompt = TASK.sample(insitu.Seed(0), 2, 4, queries=3).prompt
    mirrored = as_predictor(lambda xs, ys, queries: queries[:, ::-1, :1], arrays="numpy").predict(prompt)
    assert torch.equal(mirrored, prompt.queries.flip(1)[..., :1])


def test_what_is_no_function_is_refused():
    with pytest.raises(InputError, match="got int"):
        as_predictor(3)


def test_arrays_of_a_third_library_are_refused():
    with pytest.raises(InputError, match="'jax'"):
        FunctionPredictor(torch_least_squares, "jax")


def test_load_gives_learners_networks_and_language_models(tmp_path):
    assert insitu.load("Ridge(penalty=0.5)") == Ridge(penalty=0.5)
    network = gradient_descent(dim=3, steps=2, rate=0.5)
    save_network(network, tmp_path)
    prompt = TASK.sample(insitu.Seed(0), 3, 7, 2).prompt
    close(insitu.load(tmp_path).predict(prompt), network.predict(prompt))
    assert insitu.load("prose1M").name == "prose1M"


def test_what_names_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="no language model could be loaded"):
        insitu.load(tmp_path / "nothing")


def test_compare_is_the_difference_of_errors_on_the_same_prompts():
    steps = GradientDescent(steps=1, rate=0.5)
    difference = insitu.compare(LeastSquares(), steps, TASK, batch=64)
    mirrored = insitu.compare(steps, torch_least_squares, TASK, batch=64)
    assert difference.value == pytest.approx(-mirrored.value, rel=1e-9)
    assert difference.interval()[1] < 0
    assert insitu.compare(steps, steps, TASK, batch=64).value == 0


def test_identify_names_a_plain_function():
    found = insitu.identify(lambda xs, ys, queries: 0.4 * queries @ (xs.mT @ ys) / xs.shape[1], dim=3, count=16)
    assert repr(found.best.learner) == "GradientDescent(steps=1, rate=0.4)"


def test_identify_names_a_network_whose_weights_can_be_trained():
    network = gradient_descent(dim=2, steps=1, rate=0.3)
    assert all(weight.requires_grad for weight in network.parameters())
    assert insitu.identify(network, points=(5,), count=8).best.learner == GradientDescent(steps=1, rate=0.3)


def test_identify_asks_for_the_dimension_of_a_function():
    with pytest.raises(InputError, match="dim is missing"):
        insitu.identify(torch_least_squares)


def test_reproduce_gives_records_that_show_themselves(tmp_path):
    name = "sander2024.rotations-obey-a-three-term-recurrence"
    records = insitu.reproduce(name, out=tmp_path, workers=1)
    assert (repr(records).partition("(")[0], len(records), records[0].claim) == ("Records", 1, name)
    assert str(records).split() == ["holds", name]
    assert name in records._repr_html_()
    assert records.save_page().exists()
    assert insitu.reproduce(name, out=tmp_path)[0].finished == records[0].finished, "finished claims are kept"


START = """
import sys
import insitu
assert "torch" not in sys.modules and "numpy" not in sys.modules
assert {"tasks", "learners", "models", "theory", "training", "language", "claims", "identify"} <= set(dir(insitu))
assert insitu.learners.Ridge(penalty=1.0) == insitu.load("Ridge(penalty=1.0)")
"""


def test_importing_the_package_imports_nothing_heavy_and_resolves_lazily():
    subprocess.run([sys.executable, "-c", START], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = insitu.nothing


@pytest.mark.parametrize("words", [["--help"], ["claims"], ["lm", "compare", "--help"]])
def test_help_and_claims_do_not_import_torch(words):
    code = (
        f"import sys; sys.argv = ['insitu', *{words}]\nfrom insitu.cli.app import run\nrun()\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_results_are_short_in_a_shell_and_whole_in_a_notebook(tmp_path):
    (record,) = insitu.reproduce("sander2024.rotations-obey-a-three-term-recurrence", out=tmp_path, workers=1)
    network = gradient_descent(dim=3, steps=2, rate=0.5)
    estimate = insitu.compare(LeastSquares(), GradientDescent(steps=1, rate=0.5), TASK, batch=64)
    for result in (record, network, estimate):
        assert len(repr(result)) < 120, repr(result)
        assert result._repr_html_().startswith("<")
    assert record.statement in str(record)
    assert repr(network).startswith("AttentionNetwork(dim=3, layers=2, mask=Prefix(length=None), shared=True; ")
    assert repr(network).endswith("set by hand: gradient descent, rate 0.5)")


UNGUARDED = """
import sys
import insitu
sys.stdout.write("started\\n")
ids = ("ding2024.prefix-is-gradient-descent", "ding2024.causal-is-a-coupled-iteration")
sys.stdout.write(repr(insitu.reproduce(*ids, out=sys.argv[1], workers=2)))
"""


def test_a_script_reproduces_without_a_guard(tmp_path):
    """Workers that imported the script would start workers of their own, and die."""
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = subprocess.run([sys.executable, script, tmp_path / "out"], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("started\nRecords(2 holds;")


def test_only_processes_that_need_the_main_module_learn_where_it_lies(monkeypatch):
    script = ModuleType("__main__")
    script.__file__ = str(Path(__file__))
    monkeypatch.setitem(sys.modules, "__main__", script)
    keys, before = {"init_main_from_name", "init_main_from_path"}, dict(vars(script))
    with main_hidden():
        assert not keys & spawn.get_preparation_data("worker").keys()
    assert vars(script) == before
    assert keys & spawn.get_preparation_data("worker").keys()
    assert type(process_context("__main__")) is not type(process_context("insitu"))
