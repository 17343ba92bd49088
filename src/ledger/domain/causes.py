"""Every `cause` there is, in a sentence: how attempts and jobs end, and why nodes change state.

`docs/reference/causes.md` is made from this page; a test finds every word the code uses here.
"""

ATTEMPTS = {
    "exit": "The command ended by itself; its exit code says how.",
    "signal": "The command was ended by a signal that we did not send.",
    "time_limit": "It ran as long as its time limit allows, and was stopped.",
    "stopped": "Its node was told to stop it: it was cancelled, requeued, or lost another node.",
    "out_of_memory": "The node ran out of memory, or the job out of its share.",
    "exec_failed": "The command could not be started; the detail says why.",
    "no_such_account": "The node has no account of the job's user that may run jobs.",
    "lease_expired": "The node could not reach the master for its lease, and killed it.",
    "agent_restarted": "The node's agent, or the node, started anew; what had run there is gone.",
    "hold_dropped": "The node no longer kept its place for it, and its command was not started.",
    "agent_forgot": "The node's agent came back without it and without a report of its end.",
    "node_lost": "The node was silent for so long that the attempt was given up.",
    "unknown": "The node's agent gave no cause.",
}
"""How attempts end. The master itself says `agent_forgot` and `node_lost`, agents the others."""

JOBS = {
    "cancelled": "It was cancelled before it started.",
    "deadline": "Its deadline passed before it could start (imported histories).",
    "node_lost": "A node that it should start on was lost (imported histories).",
}
"""How jobs end that are pending."""

OUTAGES = {
    "silent": "A node was not heard of for its lease.",
    "declared_dead": "An operator declared a node dead.",
    "agent_forgot": "A node's agent came back without what had run there.",
    "agent_restarted": "A node's agent, or the node, started anew; what had run there is gone.",
    "lease_expired": "A node could not reach a master that reigned, and killed what ran there.",
    "hold_dropped": "A node no longer kept its place for an attempt.",
    "stopped": "A node stopped what ran there, and nobody had asked for it.",
    "node_lost": "A node was silent for so long that what ran there was given up.",
    "unknown": "A node lost what ran there; its agent gave no cause.",
    "absent": "No master reigned.",
    "frozen": "The master reigned, but did nothing: it was stopped, or hung.",
    "restored": "The log was restored from a copy that ends here, or copied.",
    "operator": "An operator says so; the reason says why.",
    "planned": "It was announced; the reason says why.",
}
"""How outages begin. A person's words about the cause come later, in OutageCauseFound."""

NODES = {
    "enrolled": "The node has joined and has not yet reported itself empty.",
    "reported_empty": "The node has joined and has nothing left to run.",
    "silent": "The node was not heard of for its lease.",
    "in_contact": "The node speaks again, but has what it should not have, and is to stop it.",
    "cannot_record": "Its agent can't record what it does and takes no job; the reason says why.",
    "records_again": "Its agent can record what it does again.",
    "returned": "The node speaks again, and has nothing but what it should.",
    "operator": "An operator asked that it take no more jobs.",
    "drained": "An operator asked that it take no more jobs; it was down at that time.",
    "emptied": "The last job on a draining node has ended.",
    "resumed": "An operator lets it take jobs again.",
    "declared_dead": "An operator declared it dead; what ran there is lost.",
}
"""Why nodes change their state."""
