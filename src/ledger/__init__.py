"""jobledger: the master of a shared batch cluster whose every act is an append-only event."""

__version__ = "0.1.0"
