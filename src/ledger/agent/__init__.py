"""The agent: the daemon on a node that runs what the master orders and reports what became of it.

`run` is the way in. `daemon` keeps the protocol; `processes` alone knows what a process is, with
`warden` (the small parent of each attempt), `accounts` (whose uid) and `leftovers` (what a dead
agent left behind); `spool` is the memory that survives a crash, `lease` the promise to stop in
time, `output` what jobs write, `transport` the way to the master, `facts` what the node is, and
`simulated` nodes that run nothing.
"""
