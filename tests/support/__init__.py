"""What tests share: fixtures live in conftest.py, everything else here, one small module per subject."""

from tests.support.programs import needs

__all__ = ["needs"]
