"""`python -m ledger` is `jobledger`."""

from ledger.cli import main

main()
