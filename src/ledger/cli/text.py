"""What other people wrote, made safe to look at."""

import json
from typing import Any

from ledger.safe import escaped, line, lines

__all__ = ["json_text", "line", "lines"]


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON that is as readable as it can be and has nothing in it that a terminal would obey."""
    return escaped(json.dumps(value, ensure_ascii=False, indent=indent))
