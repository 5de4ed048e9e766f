import pytest

from fineprune.defenses.stop_rule import StopPoint, stop_point


@pytest.mark.parametrize(
    ("accuracies", "tolerance", "expected"),
    [
        pytest.param([0.9, 0.89, 0.8, 0.1], 0.04, StopPoint(1, 0.89, 2, 0.8), id="stops before the drop"),
        pytest.param(
            [0.9, 0.86, 0.8, 0.1], 0.04, StopPoint(1, 0.86, 2, 0.8), id="exactly the tolerance holds"
        ),
        pytest.param([0.1 * 3, 0.2, 0.1, 0.1], 0.1, StopPoint(1, 0.2, 2, 0.1), id="binary fractions"),
        pytest.param(
            [0.9, 0.8599, 0.9, 0.1], 0.04, StopPoint(0, 0.9, 1, 0.8599), id="the first already costs"
        ),
        pytest.param([0.9, 0.5, 0.9, 0.9], 0.04, StopPoint(0, 0.9, 1, 0.5), id="no look behind a violation"),
        pytest.param(
            [0.9, 0.95, 0.88, 0.1, 0.1], 0.04, StopPoint(2, 0.88, 3, 0.1), id="compares with the unpruned"
        ),
        pytest.param(
            [0.9, 0.9, 0.9, 0.9], 0.04, StopPoint(2, 0.9, None, None), id="one channel always stays"
        ),
        pytest.param(
            [0.9, 0.9, 0.9, 0.1], 0.04, StopPoint(2, 0.9, None, None), id="only the empty layer violates"
        ),
        pytest.param([0.9, 0.9, 0.89, 0.1], 0.0, StopPoint(1, 0.9, 2, 0.89), id="a tolerance of zero"),
        pytest.param([0.9, 0.1, 0.1, 0.1], 1.0, StopPoint(2, 0.1, None, None), id="everything is tolerated"),
        pytest.param([0.9, 0.1], 1.0, StopPoint(0, 0.9, None, None), id="a single channel"),
    ],
)
def test_the_rule_stops(accuracies, tolerance, expected):
    assert stop_point(accuracies, tolerance) == expected
