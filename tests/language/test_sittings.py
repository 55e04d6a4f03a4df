"""Sittings that are shorter than what a record needs still come to the end, with the records of one undisturbed run."""

import itertools
from contextlib import contextmanager
from dataclasses import replace

import pytest
from tests.language.architectures import network
from tests.language.small_models import TEMPLATE, tokenizer, write_corpus

from insitu import budget
from insitu.language import Descent, LanguageModel, Reader, load_corpus, load_template
from insitu.language.measure import masks
from insitu.language.measure.bench import set_up
from insitu.language.measure.compare import Comparison, compare
from insitu.language.measure.masks import TUNED, FineTuning, mask
from insitu.language.measure.order import Orders, order_sensitivity
from insitu.language.measure.unfinished import Piece
from insitu.records import read_folder
from insitu.seed import Seed

VOLATILE = {"finished", "seconds", "training seconds", "reading seconds", "digest"}
PLAIN, ADAM = (Descent(0.05),), (Descent(0.01, batch=1, optimiser="adam"),)
WORK = {
    "compare": (compare, Comparison((2,), 2, 2, ADAM, (1, 2), development=3, hidden=True)),
    "compare, chosen epoch alone": (compare, Comparison((2,), 2, 2, PLAIN, (0, 3), development=3, every=False)),
    "order": (order_sensitivity, Orders(2, 1, 2, ADAM, (1, 2))),
}
# More sittings than any of them takes.
ENOUGH = 12


class OverError(BaseException):
    """The end of a sitting in the middle of a reading."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sittings")
    (folder / "own.toml").write_text(TEMPLATE)
    corpus, template = load_corpus(write_corpus(folder / "data")), load_template(folder / "own.toml")
    words = tokenizer("the film plot actor Text: Kind: joy")
    model = LanguageModel("tiny", network("llama", vocab_size=len(words), max_position_embeddings=256), words)
    return set_up(model, corpus, template, Seed(0), shots=2, items=3, longest=12, shorten=True)


@contextmanager
def sitting(readings, steps):
    """A sitting that is cut short in a reading after so many, and whose budget is spent after so many steps."""
    read, left, seconds = Reader.answers, itertools.count(1), itertools.count()

    def answers(*given, **options):
        if next(left) > readings:
            raise OverError
        return read(*given, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "answers", answers)
        patch.setattr(budget.Current, "budget", budget.Budget(steps + 0.5, clock=lambda: float(next(seconds))))
        yield


def sittings(measure, bench, setting, folder, most):
    """How many sittings a measurement takes: room for a step of two trainings, and two readings of each after it."""
    for number in range(most):
        try:
            with sitting(readings=5, steps=1):
                list(measure(bench, setting, folder, resume=True))
        except (OverError, budget.OutOfTimeError):
            continue
        return number + 1
    pytest.fail(f"{most} sittings do not reach the end")


def numbers(folder):
    """The records of a folder, without what two runs may differ in."""
    records, damaged = read_folder(folder)
    assert not damaged
    return {path.name: {k: v for k, v in record.items() if k not in VOLATILE} for path, record in records.items()}


@pytest.mark.parametrize("name", WORK)
def test_short_sittings_end_with_the_records_of_one_undisturbed_run(bench, name, tmp_path):
    measure, setting = WORK[name]
    list(measure(bench, setting, tmp_path / "whole"))
    assert sittings(measure, bench, setting, tmp_path / "parts", most=ENOUGH) > 3
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["records"], "pieces were left"


@pytest.mark.parametrize("name", WORK)
def test_without_pieces_short_sittings_never_reach_the_end(bench, name, tmp_path, monkeypatch):
    """A saboteur: nothing but records is kept."""
    measure, setting = WORK[name]
    monkeypatch.setattr(Piece, "load", lambda self, *kinds: None)
    with pytest.raises(pytest.fail.Exception, match="do not reach the end"):
        sittings(measure, bench, setting, tmp_path, most=ENOUGH)


@pytest.mark.parametrize("part", ["all", "lora:2"])
def test_a_fine_tuning_goes_on_where_a_sitting_ended(bench, part, tmp_path, monkeypatch):
    """With the records of one undisturbed run; a saboteur begins every training anew."""
    mixture = replace(bench, corpus=replace(bench.corpus, name="mixture"))
    setting = FineTuning(shots=(1, 2), seeds=1, steps=3, batch=2, rate=1e-2, part=part)

    def measure(bench, setting, folder, *, resume=False):
        return mask([mixture], [bench], setting, folder, resume=resume)

    list(measure(bench, setting, tmp_path / "whole"))
    taken = sittings(measure, bench, setting, tmp_path / "parts", most=ENOUGH)
    assert taken > 2
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["records"], "states were left"
    monkeypatch.setattr(masks, "newest_state", lambda folder: None)
    with pytest.raises(pytest.fail.Exception, match="do not reach the end"):
        sittings(measure, bench, setting, tmp_path / "anew", most=taken + 1)


def test_a_fine_tuning_begins_no_step_that_does_not_fit(bench, tmp_path, monkeypatch):
    mixture = replace(bench, corpus=replace(bench.corpus, name="mixture"))
    setting = FineTuning(shots=(2,), seeds=1, steps=5, batch=2, rate=1e-2)
    done = []
    monkeypatch.setattr(budget.Current, "budget", budget.Budget(1e-3))
    # The budget has an hour left, and a step takes more.
    hours = itertools.count()
    monkeypatch.setattr(budget.Budget, "left", 3600.0)
    monkeypatch.setattr(masks.time, "monotonic", lambda: 4000.0 * next(hours))
    arms = (TUNED["prefix"],)
    with pytest.raises(budget.OutOfTimeError):
        list(mask([mixture], [bench], setting, tmp_path, arms=arms, tell=lambda arm, step: done.append(step)))
    assert done == [1]


def test_damaged_pieces_are_worked_out_again(bench, tmp_path):
    measure, setting = WORK["order"]
    list(measure(bench, setting, tmp_path / "whole"))
    with pytest.raises((OverError, budget.OutOfTimeError)), sitting(readings=5, steps=1):
        list(measure(bench, setting, tmp_path / "parts", resume=True))
    pieces = sorted((tmp_path / "parts").rglob("*.pt"))
    assert len(pieces) >= 4
    for path, damage in zip(pieces, itertools.cycle([b"", b"no state", None])):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage is None else damage)
    list(measure(bench, setting, tmp_path / "parts", resume=True))
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")


def test_without_resume_pieces_of_an_earlier_sitting_do_not_count(tmp_path):
    Piece(tmp_path / "a.pt", resume=True).store(1)
    assert Piece(tmp_path / "a.pt", resume=True).once(int, lambda: 2) == 1
    assert Piece(tmp_path / "a.pt", resume=False).once(int, lambda: 2) == 2
    assert Piece(tmp_path / "a.pt", resume=True).once(str, lambda: "3") == "3", "a value of another kind"
