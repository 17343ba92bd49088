"""The baseline of row 2, in an environment of its own that has procrastinate: jobs a second.

python deferring.py URL
"""

import sys
import time

import procrastinate

SIZE, REQUESTS = 1000, 10


def main(url: str) -> None:
    """Defer jobs in batches, and print how many a second."""
    app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=url))

    @app.task(name="nothing")
    def nothing(number: int) -> None:
        pass

    with app.open():
        app.schema_manager.apply_schema()
        began = time.perf_counter()
        for _ in range(REQUESTS):
            nothing.batch_defer(*({"number": number} for number in range(SIZE)))
        print(SIZE * REQUESTS / (time.perf_counter() - began))


if __name__ == "__main__":
    main(sys.argv[1])
