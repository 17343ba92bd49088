"""Refusals: one list, one order, one code each."""

from ledger.domain.errors import Conflict, Refusal, refusals

FAMILIES = (
    *("malformed", "unauthenticated", "not_found", "forbidden", "conflict"),
    *("bad_constraints", "limited", "not_ready"),
)


class Foreign(Conflict):
    """A refusal that somebody else defines."""

    code, status = "foreign", 409
    hint = "Nothing."


def test_families_stand_in_the_order_of_precedence() -> None:
    heads = [cls.code for cls in refusals() if cls in Refusal.__subclasses__()]
    assert tuple(heads) == FAMILIES


def test_every_refusal_has_a_code_of_its_own_a_status_and_advice() -> None:
    codes = [cls.code for cls in refusals()]
    assert len(codes) == len(set(codes))
    for cls in refusals():
        assert 400 <= cls.status < 600
        assert cls.hint
        assert cls("no", hint="").advice == cls.hint
        assert cls("no", hint="do this", limit=3).details == {"limit": 3}


def test_the_page_is_the_same_whatever_else_is_loaded() -> None:
    assert Foreign not in refusals()
