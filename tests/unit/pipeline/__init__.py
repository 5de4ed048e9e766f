import pytest

# A failed assertion there tells the values too.
pytest.register_assert_rewrite(f"{__name__}.submitting", f"{__name__}.world")
