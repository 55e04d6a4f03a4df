"""Arrays as other frameworks store them: read exactly, or refused with a conversion that works."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from insitu.errors import InputError
from insitu.exchange import load_answers, load_prompts
from insitu.prompt import Prompt

CASES = Path(__file__).parents[2] / "shared" / "cases"
SHAPES = {"xs": (3, 5, 2), "ys": (3, 5), "queries": (3, 4, 2)}


def arrays(dtype="float64"):
    draw = np.random.default_rng(0)
    return {name: draw.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}


def as_bfloat16(array):
    """What NumPy finds in a file of bfloat16 numbers: two bytes without a type, the upper half of a float32."""
    return (array.astype("float32").view("uint32") >> 16).astype("uint16").view("V2")


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
def test_floating_numbers_are_read_exactly(tmp_path, dtype):
    given = arrays(dtype)
    np.savez(tmp_path / "P.npz", **given)
    file = load_prompts(tmp_path / "P.npz")
    assert file.prompt.xs.dtype == (torch.float64 if dtype.endswith("8") else torch.float32)
    np.testing.assert_array_equal(file.prompt.xs.numpy(), given["xs"])
    np.savez(tmp_path / "A.npz", answers=given["ys"][:, :4])
    np.testing.assert_array_equal(load_answers(tmp_path / "A.npz", file)[..., 0].numpy(), given["ys"][:, :4])


def advised(message, array):
    """The array after the conversion that a message names, by the words that stand there."""
    (expression,) = re.findall(r"Convert it: (.*)\.$|bfloat16, (.*) gives its numbers", message)
    return eval("".join(expression), {"xs": array})


@pytest.mark.parametrize(
    "array",
    [np.arange(30).reshape(3, 5, 2), np.ones((3, 5, 2), bool), np.ones((3, 5, 2), np.longdouble)],
)
def test_the_advice_for_other_numbers_works(tmp_path, array):
    np.savez(tmp_path / "P.npz", **arrays() | {"xs": array})
    with pytest.raises(InputError, match=rf"xs has dtype {array.dtype}; expected float16") as refusal:
        load_prompts(tmp_path / "P.npz")
    np.savez(tmp_path / "P.npz", **arrays() | {"xs": advised(str(refusal.value), array)})
    np.testing.assert_array_equal(load_prompts(tmp_path / "P.npz").prompt.xs.numpy(), array)


def test_the_advice_for_bfloat16_works(tmp_path):
    single = arrays("float32")["xs"]
    np.savez(tmp_path / "P.npz", **arrays() | {"xs": as_bfloat16(single)})
    with pytest.raises(InputError, match=r"xs\.astype\('float32'\) where the array is made") as refusal:
        load_prompts(tmp_path / "P.npz")
    back = advised(str(refusal.value), np.load(tmp_path / "P.npz")["xs"])
    cut = (single.view("uint32") & 0xFFFF0000).view("float32")
    np.testing.assert_array_equal(back, cut)
    assert not np.array_equal(back, single)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((3, 5, 2), "V1"), r"Save xs.astype\('float32'\) where the array is made\.$"),
        (np.ones((3, 5, 2), complex), "Save real numbers, such as xs.real"),
        (np.full((3, 5, 2), "1"), "Save an array of plain numbers"),
        (np.ones((3, 5)), r"xs has shape \(3, 5\).*an axis of size 1, such as xs\[..., None\]"),
    ],
)
def test_other_arrays_are_refused_with_a_way_out(tmp_path, array, message):
    np.savez(tmp_path / "P.npz", **arrays() | {"xs": array})
    with pytest.raises(InputError, match=message):
        load_prompts(tmp_path / "P.npz")


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("xs", [np.ones((3, 5, 2)), [[[1.0]]], None])
def test_a_prompt_of_no_tensors_says_how_to_convert(xs):
    with pytest.raises(InputError, match=rf"xs must be a torch tensor; got {type(xs).__name__}.*torch.from_numpy\(xs"):
        Prompt(xs, torch.ones(3, 5, 1), torch.ones(3, 4, 2))


@pytest.mark.skipif(not CASES.exists(), reason="the cases lie outside the repository and are not here")
def test_cases_of_half_precision():
    with pytest.raises(InputError, match=r"xs has dtype \|V2") as refusal:
        load_prompts(CASES / "npz-bfloat16" / "P.npz")
    half = load_prompts(CASES / "npz-bfloat16" / "P16.npz").prompt
    raw = {name: np.load(CASES / "npz-bfloat16" / "P.npz")[name] for name in SHAPES}
    np.testing.assert_allclose(advised(str(refusal.value), raw["xs"]), half.xs.numpy(), rtol=2**-7)
    assert half.xs.dtype == torch.float32
