"""What an agent's call says, as commands to the master."""

from ledger.commands import Command, Contact, ReportEnded, ReportStarted
from ledger.wire import Report, SyncRequest


def contact(node: str, sync: SyncRequest) -> Contact:
    """What a node is and has."""
    return Contact(
        node=node,
        spool=sync.spool,
        boot_id=sync.boot_id,
        build=sync.build,
        protocol=sync.protocol,
        image=sync.facts.image,
        kernel=sync.facts.kernel,
        packages_sha256=sync.facts.packages_sha256,
        has=frozenset((h.job, h.attempt) for h in sync.has),
        reported=frozenset((r.job, r.attempt) for r in sync.reports if r.kind == "ended"),
        cannot_record=sync.cannot_record[:300],
    )


def reported(node: str, boot_id: str, report: Report, lost: tuple[str, ...]) -> Command:
    """One report; `lost` are the other nodes of the attempt that are gone."""
    if report.kind == "started":
        return ReportStarted(node=node, job=report.job, attempt=report.attempt, boot_id=boot_id)
    return ReportEnded(
        node=node,
        job=report.job,
        attempt=report.attempt,
        end=report.end or "failed",
        cause=report.cause or "unknown",
        exit_code=report.exit_code,
        signal=report.signal,
        ran_us=max(0, report.ran_us),
        cpu_us=None if report.cpu_us is None else max(0, report.cpu_us),
        output=report.output,
        detail=report.detail[:2_000],
        lost=lost,
    )
