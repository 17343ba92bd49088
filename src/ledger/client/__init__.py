"""The client of `/v1`: what commands, `replay-trace` and other people's programs speak through.

`Client` blocks, `AsyncClient` does not; both repeat a request that may not have arrived, a
submission always under the same idempotency key.
"""

from ledger.client.aio import AsyncClient
from ledger.client.blocking import Client
from ledger.client.errors import ClientError, NotUnderstood, Refused, Unreachable

__all__ = ["AsyncClient", "Client", "ClientError", "NotUnderstood", "Refused", "Unreachable"]
