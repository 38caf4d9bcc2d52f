"""Scripted miners: what they do follows from the seed, and from nothing that goes wrong around them."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from tourney_ray.core.ids import TaskPlace
from tourney_ray.core.models import Entrant, Evaluated, Failed, Refusal, TaskType, TournamentType, Trained
from tourney_ray.simulation.miners import Script, Trait, entrant, image_of, task_data

TEXT = TournamentType.TEXT
PLACES = [TaskPlace(f"t_round_001_pair_{i:03d}", 0, 1) for i in range(300)]


def told(script: Script) -> list[object]:
    """Everything that a script says of one place."""
    place, hotkeys = PLACES[0], script.hotkeys(TEXT)
    said: list[object] = [script.transfers(TEXT, 1), script.prepares(place), script.params(place, 0.1, 4.0)]
    for h in hotkeys:
        said += [script.answer(h, 1), script.trait(place, h), script.outcome(place, h, 0, "a")]
        said += [script.share_of_time(place, h, 0), repr(script.evaluated(TaskType.GRPO, place, h, 1))]
    return said


def test_the_same_seed_says_the_same_and_another_one_does_not():
    assert told(Script(1, 8)) == told(Script(1, 8))
    assert told(Script(1, 8)) != told(Script(2, 8))


def test_chances_belong_to_their_words():
    script = Script(1, 8)
    numbers = [script.chance("a", i) for i in range(1000)]
    assert all(0 <= u < 1 for u in numbers)
    assert 0.45 < sum(numbers) / 1000 < 0.55
    assert script.chance("a", 1) == numbers[1] != script.chance("b", 1)


def test_one_has_no_repository_and_one_no_money():
    script = Script(1, 8)
    poor = entrant(script.hotkeys(TEXT)[-1]).coldkey
    assert all(isinstance(script.answer(script.hotkeys(TEXT)[8], n), Refusal) for n in (1, 2))
    paid = Counter(transfer.coldkey for transfer in script.transfers(TEXT, 2))
    assert paid[poor] == 1  # of its neighbour's: the two share an account
    assert len(script.transfers(TEXT, 2)) == 9
    assert script.transfers(TEXT, 2) == script.transfers(TEXT, 3)


def test_who_is_late_answers_at_the_second_pass():
    script = Script(1, 200)
    first = [script.answer(h, 1) for h in script.hotkeys(TEXT)]
    second = [script.answer(h, 2) for h in script.hotkeys(TEXT)]
    assert 5 < sum(isinstance(answer, Refusal) for answer in first) < 50
    assert sum(isinstance(answer, Refusal) for answer in second) == 1


def test_every_trait_occurs_and_does_what_it_says():
    script, seen = Script(1, 8), Counter[Trait]()
    for place in PLACES:
        trait = script.trait(place, "text-001")
        seen[trait] += 1
        first, second = (script.outcome(place, "text-001", failures, "a") for failures in (0, 1))
        assert isinstance(first, Failed) is (trait in (Trait.CRASHES, Trait.CRASHES_ONCE))
        assert isinstance(second, Failed) is (trait is Trait.CRASHES)
        measured = script.evaluated(TaskType.INSTRUCT, place, "text-001", 0)
        assert bool(measured.refused) is (trait is Trait.REFUSED_ONCE)
        assert measured.fine_tuned is (trait is not Trait.UNTRAINED)
        assert math.isinf(measured.value) is (trait is Trait.INFINITE)
    assert set(seen) == set(Trait)
    assert seen[Trait.GOOD] > 150


def test_metrics_may_be_equal_and_rewards_may_be_negative():
    script = Script(3, 8)
    values = [
        script.evaluated(TaskType.GRPO, place, hotkey, 1).value
        for place in PLACES
        for hotkey in ("text-001", "text-002")
        if script.trait(place, hotkey) is Trait.GOOD
    ]
    assert min(values) < 0 < max(values)
    assert len(set(values)) < len(values)
    losses = [script.evaluated(TaskType.DPO, place, "text-001", 1) for place in PLACES]
    assert all(not result.value < 0 for result in losses)


def test_copies_have_the_same_weights():
    script = Script(1, 8)
    copies: list[Evaluated] = []
    for place in PLACES:
        both = ("text-001", "text-002")
        if all(script.trait(place, hotkey) is Trait.COPIED for hotkey in both):
            copies = [script.evaluated(TaskType.DPO, place, hotkey, 0) for hotkey in both]
    digests = {script.evaluated(TaskType.DPO, PLACES[0], h, 1).digest for h in script.hotkeys(TEXT)}
    assert len({copy.digest for copy in copies}) <= 1
    assert len(digests) > 5


def test_what_was_prepared_badly_is_prepared_well_the_second_time():
    script = Script(1, 8)
    tried = [script.prepares(place) for place in PLACES]
    assert 5 < tried.count(False) < 60
    assert all(script.prepares(TaskPlace(place.match_id, place.slot, 2)) for place in PLACES)


@pytest.mark.parametrize("place", PLACES[:20])
def test_models_keep_to_their_range(place: TaskPlace):
    assert 100_000_000 <= Script(1, 8).params(place, 0.1, 4.0) <= 4_000_000_000


def test_an_offer_is_one_tree_and_each_build_an_image_of_its_own():
    offer = entrant("text-001")
    assert isinstance(offer, Entrant)
    assert offer == entrant("text-001")
    assert offer.tree_hash != entrant("text-002").tree_hash
    assert image_of(offer.tree_hash, 1) == image_of(entrant("text-001").tree_hash, 1)
    assert image_of(offer.tree_hash, 1) != image_of(offer.tree_hash, 2)
    assert task_data(PLACES[0], 7).model_params == 7
    assert task_data(PLACES[0], 7).dataset_sha256 != task_data(PLACES[1], 7).dataset_sha256


def test_a_good_attempt_leaves_a_checkpoint_of_its_own():
    script = Script(1, 8)
    place = next(p for p in PLACES if script.trait(p, "text-001") is Trait.GOOD)
    assert script.outcome(place, "text-001", 0, "a7") == Trained(checkpoint="checkpoints/a7", seconds=1.0)
