"""Histories of other systems, made into ledgers of their own.

What a site kept of its past (Slurm's accounting, a trace in the Standard Workload Format) becomes
events with the times they then had, so that every question can be asked of it. Such a ledger is an
archive: it says that its durability is `off`, and no master goes on from it.
"""
