"""What the tests of outages share."""

from ledger.commands import SYSTEM, TendOutages
from ledger.events import Event
from ledger.testing.stories import Story

MINUTE = 60_000_000


def cluster(**racks: str) -> Story:
    """A story with these nodes in these racks, idle."""
    story = Story()
    for name, rack in racks.items():
        story.node(name, rack=rack)
    return story


def happened(story: Story, *kinds: type[Event]) -> list[Event]:
    """The events of some kinds."""
    return [r.event for r in story.events if isinstance(r.event, kinds)]


def numbers(story: Story, kind: type[Event]) -> list[int]:
    """The outages that the events of a kind name."""
    return [e.outage for e in happened(story, kind)]  # type: ignore[attr-defined]


def there(story: Story) -> dict[int, list[str]]:
    """Every outage that is known, and its nodes."""
    c = story.cluster
    return {o.n: sorted(o.nodes) for o in (*c.past_outages.values(), *c.outages.values())}


def tend(story: Story) -> None:
    """The clock looks."""
    story.ask(SYSTEM, TendOutages())
