"""What the helpers of these tests assert is explained as what the tests themselves assert is."""

import pytest

pytest.register_assert_rewrite(f"{__package__}.planted_world")
