"""What the pages say that commands print is what they print."""

from pathlib import Path

import pytest

from ledger.testing.outputs import BLOCK, pages, printed, renewed, service

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.mark.parametrize("page", pages(DOCS), ids=lambda page: page.stem)
def test_the_outputs_of_a_page_are_its_commands(page: Path) -> None:
    text = page.read_text()
    with service():
        assert renewed(text) == text, f"{page.name} is out of date: run `make docs`"


def test_each_service_is_the_same() -> None:
    told = []
    for _ in range(2):
        with service():
            told.append(printed("jobledger outage affected 1 -o json"))
    assert told[0] == told[1]
    assert "n3" in told[0]


def test_an_output_that_is_not_so_is_noticed() -> None:
    page = "x\n```console\n$ jobledger outage list --open\nAll is well.\n```\ny\n"
    with service():
        (block,) = BLOCK.findall(renewed(page))
    assert block.startswith("$ jobledger outage list --open\n")
    assert "All is well" not in block


def test_the_answers_have_pages_with_outputs() -> None:
    assert {"outages", "look-back", "find-abuse", "ask-your-own-history", "queues"} <= {
        page.stem for page in pages(DOCS)
    }
