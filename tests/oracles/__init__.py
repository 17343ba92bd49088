"""Answers found the long way, by scanning every event: what the projections are compared with."""
