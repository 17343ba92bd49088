"""Every cause that the code can write down is explained on the page of causes."""

import ast
from collections.abc import Iterator
from pathlib import Path

from ledger.domain import causes, node
from ledger.domain.explain import REASONS
from ledger.domain.state import Node
from ledger.wire import Report

LEDGER = Path(node.__file__).parent.parent
WRITERS = {
    "JobEnded": causes.JOBS,
    "NodeStateChanged": causes.NODES,
    "AttemptEnded": causes.ATTEMPTS,
    "OutageOpened": causes.OUTAGES,
}


def calls(*folders: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call in these folders by the last name of what is called."""
    for folder in folders:
        for path in sorted((LEDGER / folder).rglob("*.py")):
            for found in ast.walk(ast.parse(path.read_text())):
                if isinstance(found, ast.Call):
                    name = getattr(found.func, "attr", "") or getattr(found.func, "id", "")
                    yield name, found


def texts(expression: ast.expr) -> set[str]:
    """The constant words that an expression can be."""
    if isinstance(expression, ast.IfExp):
        return texts(expression.body) | texts(expression.orelse)
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return {expression.value}
    return set()


def nth(call: ast.Call, place: int) -> set[str]:
    """The words at one place of a call's arguments."""
    return texts(call.args[place]) if len(call.args) > place else set()


def test_what_the_rules_write_is_explained() -> None:
    for name, call in calls("domain"):
        if name in WRITERS:
            for keyword in call.keywords:
                if keyword.arg == "cause":
                    assert texts(keyword.value) <= set(WRITERS[name]), ast.unparse(call)
        elif name == "change":
            assert nth(call, 2) <= set(causes.NODES), ast.unparse(call)
        elif name == "lose":
            assert nth(call, 3) <= set(causes.ATTEMPTS), ast.unparse(call)
        elif name == "_end":
            assert nth(call, 4) <= set(causes.ATTEMPTS), ast.unparse(call)
    assert Node("n1", "default").cause in causes.NODES


def test_what_agents_report_is_explained() -> None:
    found: set[str] = set()
    for name, call in calls("agent"):
        if name == "Ending":
            found |= nth(call, 1)
        elif name == "Refused":
            found |= nth(call, 0) if len(call.args) == 2 else set()
    assert {"exit", "lease_expired", "no_such_account"} <= found
    assert found <= set(causes.ATTEMPTS)


def test_the_protocol_names_no_other_words() -> None:
    said = (Report.__doc__ or "").partition("`cause`:")[2].partition(".")[0]
    assert {word.strip() for word in said.split(",")} <= set(causes.ATTEMPTS)


def test_every_reason_the_rules_can_give_is_explained() -> None:
    given: set[str] = set()
    for name, call in calls("domain"):
        if name == "_answer":
            given |= nth(call, 3)
    assert given <= set(REASONS)
