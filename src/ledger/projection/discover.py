"""Finding projections: what is installed under the entry-point group `jobledger.projections`."""

import inspect
from importlib.metadata import entry_points
from typing import NamedTuple

from ledger.projection.model import Projection

GROUP = "jobledger.projections"


class Found(NamedTuple):
    """The projections by name, and what keeps others from being one, by their entry's name."""

    projections: dict[str, Projection]
    broken: dict[str, str]


def discover(group: str = GROUP) -> Found:
    """Import every projection there is. One that can't be imported does not concern the others."""
    found = Found({}, {})
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value)):
        try:
            module = entry.load()
            projection = module.PROJECTION
        except (Exception, SystemExit) as error:  # whatever a stranger's module does
            found.broken[entry.name] = f"{entry.value}: {type(error).__name__}: {error}"
            continue
        if not isinstance(projection, Projection) or projection.name != entry.name:
            found.broken[entry.name] = f"{entry.value}: PROJECTION is not a Projection of that name"
        elif projection.name in found.projections:
            found.broken[entry.name] = f"{entry.value}: there are two projections of that name"
        else:
            said = (inspect.getdoc(module) or "").partition("\n\n")[0]
            projection.question = " ".join(said.split())
            found.projections[projection.name] = projection
    return found
