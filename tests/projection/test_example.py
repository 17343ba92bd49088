"""The example in the documentation is a projection, as it stands there."""

import types
from pathlib import Path

from places import Place
from projection.keeping import Told, ask, close, kept, wandered

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "projections.md"


def test_the_example_works(place: Place) -> None:
    code = PAGE.read_text().split("```python\n")[1].split("```")[0]
    module = types.ModuleType("users")
    exec(code, vars(module))  # noqa: S102 - it is our own page
    story = wandered(1, 0)
    story.submit("ann", array="0-9")
    story.submit("bob", count=2)
    story.submit("ann")
    follower = kept(module.PROJECTION, place, Told(story))
    follower.catch_up()
    assert ask(follower, module.top) == [module.UserRow("ann", 11), module.UserRow("bob", 2)]
    assert follower.verify()
    close(follower)
