"""The table of evidence keeps what it had, and what is measured again replaces what was."""

from ledger.testing.evidence import renewed

HEAD = "# What was measured\n\n| what | figure | date | commit |\n|---|---|---|---|\n"


def test_the_first_figure() -> None:
    page = renewed(HEAD, {"speed": "3 a second"}, "2026-01-02", "abc")
    assert page == HEAD + "| speed | 3 a second | 2026-01-02 | abc |\n"


def test_a_figure_replaces_only_the_older_one_of_its_name() -> None:
    page = renewed(HEAD, {"speed": "3 a second", "loss": "none"}, "2026-01-02", "abc")
    page = renewed(page, {"speed": "4 a second"}, "2026-02-03", "def+")
    assert page == (
        HEAD + "| loss | none | 2026-01-02 | abc |\n| speed | 4 a second | 2026-02-03 | def+ |\n"
    )
