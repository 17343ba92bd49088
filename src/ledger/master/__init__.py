"""The master: one loop that writes, and everything that hangs on it.

`loop` is the heart: requests are queued, decided in batches against the fold of the durable log,
appended, and only then answered. `recovery` brings the fold back, `timers` lets the clock and the
planner ask, `contacts` speaks with agents, `outputs` keeps what jobs print, `identity` knows who is
who. Nothing else appends; nothing here decides, that is `domain`.
"""
