"""Projections: tables that are folds of the log, kept beside it, each the answer to one question.

`model` says what one is, `discover` finds them, `fold` is the arithmetic, `store` keeps rows and
checkpoint together, `follower` keeps one up to date, `reader` answers from any process.
"""

from ledger.projection.model import Key, Projection, Table

__all__ = ["Key", "Projection", "Table"]
