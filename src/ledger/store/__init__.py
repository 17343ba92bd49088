"""The log on disk: one contract, `Log`, kept by SQLite and by PostgreSQL."""
