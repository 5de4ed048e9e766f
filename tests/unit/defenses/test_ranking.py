import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineprune.defenses.ranking import least_active_first


@pytest.mark.parametrize(
    ("mean", "order"),
    [
        ([0.3, 0.1, 0.2], [1, 2, 0]),
        ([0.5, 0.0, 0.5, 0.0], [1, 3, 0, 2]),
        ([1.0, 1.0, 1.0], [0, 1, 2]),
        ([], []),
    ],
)
def test_the_least_active_channel_is_first_and_ties_are_by_position(mean, order):
    assert least_active_first(mean) == order


@given(st.lists(st.floats(0, 10)))
def test_every_channel_is_ranked_once_and_activations_rise(mean):
    order = least_active_first(mean)
    assert sorted(order) == list(range(len(mean)))
    assert [mean[channel] for channel in order] == sorted(mean)
