"""What jobs write is kept to the byte, and brought to the master before their end is told."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from ledger.agent.output import Kept, Uploads
from ledger.agent.transport import Unreachable

from .agent_support import order, soon
from .fake_node import EXIT_0, Node


def test_output_is_there_before_the_end_is_told(tmp_path: Path) -> None:
    async def story(n: Node) -> None:
        n.uploads = Uploads(tmp_path / "output", n.master.upload)
        agent = asyncio.create_task(n.agent().run())
        n.master.give(order("x", output_head_bytes=10, output_tail_bytes=5))
        run = (await soon(lambda: n.runner.runs))[0]
        run.sink(b"0123")
        await soon(lambda: n.master.output.get((17, 1), b"") == b"0123")  # as it comes
        run.sink(b"456789abcdefghijklmnop")
        run.finish(EXIT_0)
        report = await n.ended()
        kept = b"0123456789\n[jobledger: 11 bytes left out]\nlmnop"
        assert n.master.output[17, 1] == kept
        assert report.output is not None
        assert (report.output.bytes, report.output.kept) == (26, len(kept))
        assert report.output.sha256 == hashlib.sha256(kept).hexdigest()
        await soon(lambda: list((tmp_path / "output").iterdir()) == [])
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)

    asyncio.run(story(Node()))


@pytest.mark.fault("E7")
@pytest.mark.parametrize("written", [0, 1, 10, 15, 16, 5000, 600_000])
def test_head_and_tail_are_kept_to_the_byte(tmp_path: Path, written: int) -> None:
    async def main() -> None:
        data = bytes(i % 251 for i in range(written))
        kept = Kept(tmp_path / "17.1", 10, 5)
        for at in range(0, written, 70_001):
            kept.write(data[at : at + 70_001])
        output = kept.close()
        found = (tmp_path / "17.1").read_bytes()
        if written <= 15:
            assert found == data
        else:
            gone = f"\n[jobledger: {written - 15} bytes left out]\n".encode()
            assert found == data[:10] + gone + data[-5:]
        assert (output.bytes if output else 0) == written

    asyncio.run(main())


def test_output_that_can_not_be_delivered_holds_no_report_back_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.agent.daemon.UPLOAD_PATIENCE_S", 0.2)

    async def story(n: Node) -> None:
        n.uploads = Uploads(tmp_path / "output", n.master.upload)
        agent = asyncio.create_task(n.agent().run())
        n.master.no_output = True
        n.master.give(order("x"))
        run = (await soon(lambda: n.runner.runs))[0]
        run.sink(b"late but whole")
        run.finish(EXIT_0)
        report = await n.ended()
        assert report.output is not None
        assert n.master.output == {}
        agent.cancel()  # the next agent goes on trying
        await asyncio.gather(agent, return_exceptions=True)
        n.uploads = Uploads(tmp_path / "output", n.master.upload)
        agent = asyncio.create_task(n.agent().run())
        n.master.no_output = False
        await soon(lambda: n.master.output.get((17, 1), b"") == b"late but whole")
        await soon(lambda: list((tmp_path / "output").iterdir()) == [])
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)

    asyncio.run(story(Node()))


def test_what_the_master_did_not_take_is_sent_again(tmp_path: Path) -> None:
    """From where it took the last: a part that was lost on its way would be missing for ever."""
    taken = bytearray()
    tries = 0

    async def send(job: int, attempt: int, offset: int, data: bytes) -> None:
        nonlocal tries
        tries += 1
        if tries in (1, 3):
            raise Unreachable("lost on its way")
        taken[offset : offset + len(data)] = data

    async def main() -> None:
        written = bytes(range(256)) * 2600
        (tmp_path / "17.1").write_bytes(written)
        uploads = Uploads(tmp_path, send)
        uploads.resume()
        assert await uploads.delivered(17, 1, 20)
        assert tries == 5
        assert taken == written

    asyncio.run(main())


def test_refused_output_is_dropped(tmp_path: Path) -> None:
    async def story(n: Node) -> None:
        n.uploads = Uploads(tmp_path / "output", n.master.upload)
        agent = asyncio.create_task(n.agent().run())
        n.master.give(order("x", job=666))
        run = (await soon(lambda: n.runner.runs))[0]
        run.sink(b"nobody wants it")
        run.finish(EXIT_0)
        assert (await n.ended(666)).end == "completed"
        await soon(lambda: list((tmp_path / "output").iterdir()) == [])
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)

    asyncio.run(story(Node()))
