"""What all tests of stores have."""

import pytest

from ledger.store import postgres


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs of tests are short: read them in the way of long ones, too."""
    monkeypatch.setattr(postgres, "MANY", 20)
