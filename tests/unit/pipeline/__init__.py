import pytest

pytest.register_assert_rewrite(f"{__name__}.world")  # a failed assertion there tells the values too
