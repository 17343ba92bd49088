"""Every refusal there is. A refusal is an answer, not an accident: it changes nothing.

Where several apply, the first in this order is given: malformed, unauthenticated, unknown object,
forbidden, conflict, impossible, limit, not now. `docs/reference/errors.md` is made from this page.

    Refusal
    ├── Malformed        400/422  the request can't be understood
    ├── Unauthenticated  401      nobody we know
    ├── Unknown          404      no such thing
    ├── Forbidden        403      known, but not allowed
    ├── Conflict         409      not in this state
    ├── Impossible       422      could never be carried out here
    ├── Limited          429      a limit says no, for now
    └── NotNow           503/507  the service can't take it at this moment
"""

from ledger.domain.refusal import Refusal as Refusal


def refusals() -> list[type[Refusal]]:
    """Every concrete refusal of this page, in the order of precedence, whoever adds his own."""
    found: list[type[Refusal]] = []

    def walk(cls: type[Refusal]) -> None:
        if "code" in vars(cls) and cls.__module__ == __name__:
            found.append(cls)
        for sub in cls.__subclasses__():
            walk(sub)

    walk(Refusal)
    return found


class Malformed(Refusal):
    """The request can't be understood."""

    code, status = "malformed", 422
    hint = "Correct the named field; docs/reference/http.md lists what each request takes."


class NotJson(Malformed):
    """The body is not the JSON it claims to be."""

    code, status = "not_json", 400
    hint = "Send UTF-8 JSON, or one JSON object a line with Content-Type application/x-ndjson."


class TooLarge(Malformed):
    """The request is larger than one may be."""

    code, status = "too_large", 413
    hint = "Split the request; each part may have its own idempotency key."


class HeadTooLarge(TooLarge):
    """The request line and headers are larger than they may be."""

    code, status = "head_too_large", 431
    hint = "Send fewer, or shorter, headers and parameters."


class TooSlow(Malformed):
    """The request was not complete in time."""

    code, status = "too_slow", 408
    hint = "Send it again over a better connection; nothing of it was taken."


class NotHttp(Malformed):
    """What came over the connection is no HTTP request."""

    code, status = "not_http", 400
    hint = "The service speaks HTTP/1.1, without TLS of its own."


class TooOld(Malformed):
    """The client or agent speaks a protocol that is no longer understood."""

    code, status = "too_old", 426
    hint = "Install the release of jobledger that the master runs, or a later one."


class MethodNotAllowed(Malformed):
    """The route exists, with other methods."""

    code, status = "method_not_allowed", 405
    hint = "docs/reference/http.md lists the routes and their methods."


class NotYet(Malformed):
    """The past was asked for as of a time or position that is still to come."""

    code, status = "not_yet", 422
    hint = "`jobledger log head` and `GET /v1/log/head` say how far the log goes."


class PresentOnly(Malformed):
    """A question that is answered for the present alone was asked as of another time."""

    code, status = "present_only", 422
    hint = "Leave out `at` and `at_position`; docs/how-to/look-back.md lists what can be asked."


class BadListener(Malformed):
    """An address that can't, or must not, be listened on."""

    code, status = "bad_listener", 422
    hint = "Write HOST:PORT, such as 127.0.0.1:8400."


class Unauthenticated(Refusal):
    """No credential, or none that we know."""

    code, status = "unauthenticated", 401
    hint = (
        "Set JOBLEDGER_TOKEN to a token from `jobledger token issue`, or use the Unix socket on the"
        " master's machine."
    )


class TokenExpired(Unauthenticated):
    """The token was good once."""

    code, status = "token_expired", 401
    hint = "Ask an operator for a new token: `jobledger token issue --owner NAME`."


class Unknown(Refusal):
    """The thing asked for does not exist."""

    code, status = "not_found", 404
    hint = "Check the spelling."


class UnknownJob(Unknown):
    """There was never a job of that id."""

    code, status = "unknown_job", 404
    hint = "`jobledger jobs --all` lists the jobs there are."


class UnknownNode(Unknown):
    """There is no node of that name."""

    code, status = "unknown_node", 404
    hint = "`jobledger nodes` lists the nodes there are."


class UnknownToken(Unknown):
    """There is no token of that id."""

    code, status = "unknown_token", 404
    hint = "`jobledger token list` lists the tokens there are."


class UnknownFinding(Unknown):
    """There is no finding of that number."""

    code, status = "unknown_finding", 404
    hint = "`jobledger abuse list` lists the findings there are."


class UnknownOutage(Unknown):
    """There is no such outage."""

    code, status = "unknown_outage", 404
    hint = "`jobledger outage list` lists those there were."


class UnknownNotice(Unknown):
    """There is no notice of that number."""

    code, status = "unknown_notice", 404
    hint = "`jobledger notice list` lists those there were."


class UnknownQuestion(Unknown):
    """No projection has a question of that name."""

    code, status = "unknown_question", 404
    hint = "`jobledger ask` lists what can be asked."


class UnknownProjection(Unknown):
    """There is no projection of that name."""

    code, status = "unknown_projection", 404
    hint = "`jobledger projection list` lists the projections there are."


class OutputGone(Unknown):
    """Nothing is kept of that output: it has expired, or never was."""

    code, status = "no_output", 404
    hint = "Output is kept for 30 days; output sent to a file of your own is only there."


class Forbidden(Refusal):
    """The subject is known, and may not do this."""

    code, status = "forbidden", 403
    hint = "Ask the job's owner or an operator; docs/reference/permissions.md says who may what."


class Conflict(Refusal):
    """Not in this state."""

    code, status = "conflict", 409
    hint = "Look at the present state first."


class ReadOnly(Conflict):
    """The ledger is an archive: what it tells of is past."""

    code, status = "read_only", 409
    hint = "Ask a running service; an archive can only be asked what was."


class ClockSuspect(Conflict):
    """The machine's clock and the log's last time don't fit together."""

    code, status = "clock_suspect", 409
    hint = "Check the machine's clock; if it is right, start once with --accept-clock."


class KeyReused(Conflict):
    """The idempotency key was used before with another body."""

    code, status = "key_reused", 409
    hint = "Use a new key for a new request; repeat a request with exactly the same body."


class JobIsOver(Conflict):
    """The job has ended; an ended job is never revived."""

    code, status = "job_ended", 409
    hint = "Nothing can be changed about it; to have it run once more, submit it again."


class JobNotPending(Conflict):
    """Only a pending job can do this."""

    code, status = "job_not_pending", 409
    hint = "Cancel or requeue a running job instead."


class JobNotRunning(Conflict):
    """Only a running job can do this."""

    code, status = "job_not_running", 409
    hint = "A pending job needs no requeue; it starts by itself."


class NotRestartable(Conflict):
    """The job may not be started twice unless its owner allows it."""

    code, status = "not_restartable", 409
    hint = "The owner may allow it: `jobledger change JOB --restartable`."


class NodeBusy(Conflict):
    """The node has a job."""

    code, status = "node_busy", 409
    hint = "Drain it and wait, or declare it dead with `jobledger node down NODE`."


class NodeExists(Conflict):
    """A node of that name is enrolled."""

    code, status = "node_exists", 409
    hint = "Retire the old one first: `jobledger node retire NODE`; or use another name."


class OutageIsOver(Conflict):
    """The outage is closed, and can't be closed again."""

    code, status = "outage_closed", 409
    hint = "`jobledger outage cause` records what became known since."


class StaleEpoch(Conflict):
    """The request belongs to an earlier reign."""

    code, status = "stale_epoch", 409
    hint = "Ask again: the present master answers."


class StaleSync(Conflict):
    """An agent's later call was taken before this one."""

    code, status = "stale_sync", 409
    hint = "Nothing to do: the later call is answered."


class LogBehind(Conflict):
    """An agent was shown a head that the log has not: a part is missing, and nothing is decided."""

    code, status = "log_behind", 409
    hint = "Stop the master and restore the newest copy of the log: docs/runbooks/log-behind.md."


class StaleProposal(Conflict):
    """A plan's proposal no longer holds; the next plan replaces it."""

    code, status = "stale_proposal", 409
    hint = "Nothing to do."


class Impossible(Refusal):
    """The request could never be carried out here."""

    code, status = "bad_constraints", 422
    hint = "Ask for fewer nodes, other features or another pool; `jobledger nodes` lists them."


class TooFarBack(Impossible):
    """What was then takes longer to find, or more memory, than one question may."""

    code, status = "too_far_back", 422
    hint = "Ask about one job: its own events are enough, however long the log is."


class Limited(Refusal):
    """A limit says no, for now."""

    code, status = "limited", 429
    hint = "Try again later."


class TooManyJobs(Limited):
    """The user has as many live jobs as the policy allows."""

    code, status = "too_many_jobs", 429
    hint = "Wait until some of your jobs have ended, or ask an operator to raise max_jobs_per_user."


class TooBusy(Limited):
    """More requests wait than the master takes."""

    code, status = "too_busy", 429
    hint = "Repeat the request under the same idempotency key after the time in Retry-After."


class NotNow(Refusal):
    """The service can't take it at this moment."""

    code, status = "not_ready", 503
    hint = "The master is starting or stopping; repeat the request under the same key."


class Crash(NotNow):
    """An unexpected failure of ours."""

    code, status = "internal", 500
    hint = "Report it to the operators with the request id."


class OutcomeUnknown(NotNow):
    """The master can't tell whether the request was recorded."""

    code, status = "outcome_unknown", 503
    hint = "Repeat the request under the same idempotency key: it is carried out once."


class Behind(NotNow):
    """The projection has not yet reached the position asked for."""

    code, status = "behind", 503
    hint = "Ask again, or drop `at_least`."


class NotRecorded(NotNow):
    """The log takes nothing for now. Nothing was recorded."""

    code, status = "not_recorded", 503
    hint = "Running jobs go on. Repeat under the same key after the time in Retry-After."


class LogIsLocked(NotRecorded):
    """Another program keeps the log's database locked. Nothing was recorded."""

    code, status = "log_locked", 503
    hint = "Running jobs go on. An operator must end what holds it; then repeat under the same key."


class OutputNotKept(NotNow):
    """The output store takes nothing for now. The log is not concerned."""

    code, status = "output_not_kept", 507
    hint = "The agent keeps the output and sends it again: docs/runbooks/disk-full.md."


class StorageIsFull(NotRecorded):
    """The disk is full. Nothing was recorded."""

    code, status = "storage_full", 507
    hint = "Running jobs go on. An operator must free space; then repeat under the same key."
