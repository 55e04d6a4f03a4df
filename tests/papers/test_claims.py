"""Every claim is measured as it says, and none survives its saboteur."""

import dataclasses
import functools
import inspect
import json

import pytest
from tests.papers.saboteurs import CASES

from insitu.claims import Run, Verdict
from insitu.claims.claim import overall
from insitu.claims.record import plain
from insitu.errors import InputError
from insitu.identification import black_box, verdicts
from insitu.identification.trajectories import digest_of
from insitu.papers import PAPERS, claims, ours, select
from insitu.seed import Seed

CLAIMS = claims()


@pytest.fixture(autouse=True, scope="module")
def _the_same_answers_are_identified_once():
    """A saboteur that changes what is made of identifications, or one network of several, leaves the others."""
    identified = {}

    def identify(answered, *, candidates=(), seed=None, **how):
        key = digest_of(answered), repr(candidates), repr(seed)
        if key not in identified:
            identified[key] = verdicts.identify(answered, candidates=candidates, seed=seed, **how)
        return identified[key]

    with pytest.MonkeyPatch.context() as patch:
        for module in (black_box, ours):
            patch.setattr(module, "identify", identify)
        yield


@functools.cache
def studied(study, setting):
    return study(Run(setting, Seed(3, ("study",))))


def verdict(claim, setting, study=None, **parts):
    study = study or claim.study
    run = Run(setting, Seed(3, (claim.id,)), study=study and studied(study, setting))
    return overall(claim.judge(claim.measure(run, **parts)))[0]


def test_every_claim_has_a_saboteur():
    assert set(CASES) == set(CLAIMS)


# Both of a claim one after the other, so that one process makes their study once.
BOTH = [(name, sabotaged) for name in CLAIMS for sabotaged in (False, True)]


@pytest.mark.parametrize(("name", "sabotaged"), BOTH)
@pytest.mark.filterwarnings("ignore::insitu.errors.StepSizeWarning")
def test_the_right_method_is_not_refuted_even_on_a_few_prompts_and_the_saboteur_does_not_survive(
    name, sabotaged, request
):
    # Shapes are checked once; identifications make thousands of small calls, whose shapes have tests of their own.
    if sabotaged or name.startswith(("identify.", "numbers.")):
        request.getfixturevalue("as_users_run")
    case = CASES[name]
    found = verdict(CLAIMS[name], case.setting, case.study, **(case.wrong if sabotaged else {}))
    if sabotaged:
        assert found is not Verdict.HOLDS
    else:
        assert found in (Verdict.HOLDS, Verdict.UNDECIDED)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_claim_is_complete(claim):
    assert claim.statement.endswith(".")
    assert claim.source
    assert claim.rules
    assert claim.paper in PAPERS
    assert len({rule.quantity for rule in claim.rules}) == len(claim.rules)
    assert claim.quick_seconds > 0 < claim.full_hours
    assert type(claim.quick) is type(claim.full)
    json.dumps(plain(claim.quick), allow_nan=False)
    # The parts that a saboteur replaces have the right ones as defaults.
    _, *parts = inspect.signature(claim.measure).parameters.values()
    assert all(p.default is not inspect.Parameter.empty for p in parts)
    assert dataclasses.is_dataclass(claim.quick)


def test_the_claims_of_a_paper_come_in_its_order():
    assert [claim.id for claim in select(["ding2024"])] == [name for name in CLAIMS if name.startswith("ding2024.")]


def test_ids_select_papers_and_claims_once():
    both = select(["sander2024", "sander2024.augmented-layer-is-one-step"])
    assert both == select(["sander2024"])
    assert {claim.paper for claim in both} == {"sander2024"}


def test_an_unknown_id_names_its_neighbours():
    with pytest.raises(InputError, match=r"did you mean .*ding2024\.prefix-reaches-least-squares"):
        select(["ding2024.prefix-reaches-least-square"])
