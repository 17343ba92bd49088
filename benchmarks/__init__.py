"""What the ledger's parts can do, each measured against a baseline in the same run."""
