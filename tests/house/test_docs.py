"""Pages lead where they say, and what the code promises to explain is explained."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
MENTION = re.compile(r"docs/[\w/-]+\.md")


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def test_links_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages()
        for link in LINK.findall(page.read_text())
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert broken == []


def test_every_page_can_be_found_from_the_first() -> None:
    found, todo = set(), [DOCS / "index.md"]
    while todo:
        page = todo.pop()
        found.add(page)
        links = (page.parent / link for link in LINK.findall(page.read_text()))
        todo += {link.resolve() for link in links if link.suffix == ".md"} - found - set(todo)
    assert sorted(str(page.relative_to(ROOT)) for page in {*DOCS.rglob("*.md")} - found) == []


def test_pages_that_the_code_names_exist() -> None:
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "projections").rglob("*.py")]
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources
        for name in MENTION.findall(path.read_text())
        if not (ROOT / name).exists()
    }
    assert sorted(missing) == []
