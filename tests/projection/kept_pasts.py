"""The program of `test_real_pasts`: keeps projections of a ledger, and prints what they hold.

python kept_pasts.py DATA URL FOLDER SIZE …
"""

import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from ledger.projection.discover import discover
from ledger.projection.fold import dump, fold, in_order
from ledger.projection.follower import Follower
from ledger.projection.rebuild import rebuild
from ledger.projection.source import batch
from ledger.projection.store import Store
from ledger.store.location import open_log


def main(data: Path, url: str | None, folder: Path, sizes: list[int]) -> None:
    """For each projection: how it came about, and the digest of its canonical bytes."""
    for name, projection in discover().projections.items():
        with closing(open_log(data, None, write=False)) as log:
            anew = dump(projection, in_order(fold(projection, log.read())))
            print(name, "folded", sha256(anew).hexdigest())
            for size in sizes:
                place = folder / str(size)
                with closing(Store(projection, place, url)) as store:
                    store.discard()
                    follower = Follower(projection, store, log)
                    follower.catch_up(lambda after, size=size: batch(log, after, size))
                    assert follower.checkpoint.position == log.head().position
                    print(name, f"live:{size}", sha256(store.dump()[1]).hexdigest())
                    rebuild(projection, place, url, log)
                    print(name, f"rebuilt:{size}", sha256(store.dump()[1]).hexdigest())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] or None, Path(sys.argv[3]), [int(s) for s in sys.argv[4:]])
