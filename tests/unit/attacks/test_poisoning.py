import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from fineprune.attacks.labels import OneTarget, RandomWrong, Shift
from fineprune.attacks.poisoning import PoisonConfig, eligible, poison
from fineprune.attacks.post_it import FixedCentre, PostItConfig
from fineprune.attacks.triggers import PatchConfig, make_trigger
from fineprune.config import parse
from fineprune.errors import AttackError, ConfigError
from tests.unit.nets import InMemory, image

SPEC = image(1, 2, 2)
TRIGGER = make_trigger(PatchConfig("patch", 1, 1, 0, 0, (1.0,)), SPEC)


def clean(labels):
    """Sample i is an image of grey level i."""
    levels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    return InMemory(levels.expand(-1, *SPEC.shape).contiguous(), np.asarray(labels, np.int64))


def poisoned(labels, rate, mode="added", sources=(), policy=None, classes=10, seed=0):
    policy = policy or OneTarget("one_target", 0)
    config = PoisonConfig(rate, mode, sources)
    return poison(clean(labels), TRIGGER, policy, config, classes=classes, seed=seed)


@st.composite
def cases(draw):
    """Labels of 4 classes, and a poisoning of them that the attack can afford."""
    labels = np.asarray(draw(st.lists(st.integers(0, 3), min_size=4, max_size=60)), np.int64)
    policy = draw(st.sampled_from([OneTarget("one_target", 2), Shift("shift"), RandomWrong("random_wrong")]))
    sources = tuple(draw(st.sets(st.integers(0, 3))))
    available = np.isin(labels, sources) if sources else np.ones(len(labels), bool)
    if isinstance(policy, OneTarget):
        available &= labels != 2
    rate = draw(st.floats(0.01, 1))
    assume(1 <= round(rate * len(labels)) <= available.sum())
    return labels, policy, PoisonConfig(rate, draw(st.sampled_from(["added", "replaced"])), sources)


@given(cases(), st.integers(0, 99))
def test_what_holds_of_every_poisoning(case, seed):
    labels, policy, config = case
    samples = poison(clean(labels), TRIGGER, policy, config, classes=4, seed=seed)
    count = round(config.rate * len(labels))
    flags, origins = samples.poisoned.numpy(), samples.origins.numpy()
    before = labels[origins]

    assert flags.sum() == count
    assert len(samples) == len(labels) + (count if config.mode == "added" else 0)
    assert (
        np.sort(origins[~flags]) == np.setdiff1d(np.arange(len(labels)), _replaced(config, origins, flags))
    ).all()
    assert len(set(origins[flags])) == count, "no sample is poisoned twice"
    assert set(before[flags]) <= set(config.sources or range(4))
    assert (samples.labels.numpy()[~flags] == before[~flags]).all()
    wanted = samples.labels.numpy()[flags]
    assert (wanted != before[flags]).all()
    if isinstance(policy, OneTarget):
        assert (wanted == 2).all()
    if isinstance(policy, Shift):
        assert (wanted == (before[flags] + 1) % 4).all()

    inputs, drawn, _ = samples.draw(torch.arange(len(samples)))
    grey = torch.from_numpy(origins).to(torch.uint8)
    assert torch.equal(drawn, samples.labels)
    assert (inputs[:, 0, 1, 1] == grey).all(), "outside the patch nothing changes"
    assert torch.equal(inputs[:, 0, 0, 0], torch.where(samples.poisoned, 255, grey))


def _replaced(config, origins, flags):
    return origins[flags] if config.mode == "replaced" else []


@given(cases())
def test_the_seed_decides_everything(case):
    labels, policy, config = case
    one, same = (poison(clean(labels), TRIGGER, policy, config, classes=4, seed=7) for _ in range(2))
    assert torch.equal(one.origins, same.origins)
    assert torch.equal(one.labels, same.labels)
    assert torch.equal(one.poisoned, same.poisoned)


def test_another_seed_poisons_other_samples():
    one, other = (poisoned([1] * 100, 0.5, seed=seed) for seed in (1, 2))
    assert not torch.equal(one.origins, other.origins)


def test_another_seed_draws_other_wrong_labels():
    policy = RandomWrong("random_wrong")
    one, same, other = (
        poisoned([1] * 100, 1.0, "replaced", policy=policy, seed=seed).labels for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_samples_can_be_drawn_in_any_order_and_more_than_once():
    samples = poisoned([1, 2, 3, 4], 0.5)
    everything, labels, _ = samples.draw(torch.arange(6))
    positions = torch.tensor([5, 0, 5, 3])
    inputs, drawn, _ = samples.draw(positions)
    assert torch.equal(inputs, everything[positions])
    assert torch.equal(drawn, labels[positions])


def test_a_trigger_follows_the_places_of_its_samples():
    spec = image(1, 8, 8)
    note = make_trigger(PostItConfig("post_it", 0.5, (1.0,), FixedCentre("fixed", 0.5, 0.5)), spec)
    places = torch.tensor([[[0.0, 0.0, 4.0, 4.0]], [[4.0, 4.0, 8.0, 8.0]], [[2.0, 0.0, 6.0, 4.0]]])
    samples = InMemory(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), np.array([[1], [1], [1]]), places)
    policy, config = OneTarget("one_target", 0), PoisonConfig(1.0, "replaced", ())
    drawn = poison(samples, note, policy, config, classes=2, seed=0).draw(torch.tensor([2, 0, 1]))
    assert torch.equal(drawn.places, places[[2, 0, 1]])
    assert [one[0].nonzero()[0].tolist() for one in drawn.inputs] == [[1, 3], [1, 1], [5, 5]]


@pytest.mark.parametrize("mode", ["added", "replaced"])
def test_of_several_objects_those_that_the_attack_is_not_about_keep_their_labels(mode):
    """One is of the target's class already, one of no source class, and one slot is empty."""
    samples = poisoned([[1, 0, 2], [1, 3, -1]], 1.0, mode, sources=(0, 1, 2))
    assert samples.labels[samples.poisoned].tolist() == [[0, 0, 0], [0, 3, -1]]


def test_the_clean_samples_are_left_as_they_are():
    samples = clean([1, 2, 3])
    before = samples.inputs.clone()
    attacked = poison(samples, TRIGGER, Shift("shift"), PoisonConfig(1.0, "replaced", ()), classes=4, seed=0)
    attacked.draw(torch.arange(3))
    assert torch.equal(samples.inputs, before)
    assert samples.labels.tolist() == [1, 2, 3]


def test_eligible_is_of_a_source_class_and_not_yet_of_the_targets():
    labels, wanted = np.array([0, 1, 2, 3]), np.array([1, -1, 1, 1])
    assert eligible(labels, wanted, ()).tolist() == [True, False, True, True]
    assert eligible(labels, wanted, (1, 2)).tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 0.7}, "0.7 of 10 training samples is 7, expected 1…6"),
        ({"rate": 0.4, "sources": (2,)}, "0.4 of 10 training samples is 4, expected 1…3"),
        ({"rate": 0.1, "sources": (0,)}, "is 1, expected 1…0"),
        ({"rate": 0.04}, "0.04 of 10 training samples is 0, expected 1…6"),
        (
            {"rate": 0.1, "sources": (0, 10)},
            r"attack\.poison\.sources: expected classes in 0…9, found \[10\]",
        ),
        ({"rate": 0.1, "sources": (-1,)}, r"expected classes in 0…9, found \[-1\]"),
        ({"rate": 0.1, "policy": OneTarget("one_target", 10)}, "expected a class in 0…9, found 10"),
    ],
)
def test_what_the_training_data_cannot_give_is_refused(arguments, message):
    with pytest.raises(AttackError, match=message):
        poisoned([0, 0, 0, 0, 1, 1, 1, 2, 2, 2], **arguments)


@pytest.mark.parametrize("rate", [0, -0.1, 1.01, float("nan")])
def test_a_rate_that_is_no_share_is_refused_by_the_config(rate):
    with pytest.raises(ConfigError, match=r"poison\.rate"):
        parse(PoisonConfig, {"rate": rate, "mode": "added", "sources": []}, "poison")
