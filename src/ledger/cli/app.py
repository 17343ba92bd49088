"""All commands. Those given as words are loaded when they are used, so that starting is quick."""

from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version

from cyclopts import App, Group, Parameter

HELP = """The jobs of a shared cluster, from the queue to their end, every act on record.

JOBLEDGER_URL (unix:DIR/jobledger.sock or http://HOST:PORT) says which service is meant, \
JOBLEDGER_TOKEN who you are; --url and --data say it for one command.
"""

JOBS = Group.create_ordered("Your jobs")
CLUSTER = Group.create_ordered("The cluster")
SERVICE = Group.create_ordered("Running a service")
LOG = Group.create_ordered("The log")

COMMANDS: list[tuple[Group, dict[str, tuple[str, str]]]] = [
    (
        JOBS,
        {
            "submit": ("submit:submit", "Queue a job: a script, or a command after --."),
            "run": ("submit:run", "Submit a job, print its output, end as it ends."),
            "jobs": ("jobs:jobs", "List jobs."),
            "show": ("jobs:show", "Show everything about a job."),
            "why": ("jobs:why", "Say why a job waits."),
            "output": ("output:output", "Print what a job has written."),
            "wait": ("output:wait", "Wait until jobs have ended, and end as they did."),
            "events": ("jobs:events", "Print the recorded history of a job."),
            "cancel": ("acts:cancel", "End or stop jobs."),
            "hold": ("acts:hold", "Keep pending jobs from starting."),
            "release": ("acts:release", "Let held jobs start."),
            "requeue": ("acts:requeue", "Stop running jobs and let them wait again."),
            "change": ("acts:change", "Change what live jobs ask for."),
        },
    ),
    (
        CLUSTER,
        {
            "nodes": ("nodes:nodes", "List the nodes."),
            "node": ("nodes:node_app", "Look at nodes and manage them."),
            "impact": ("impact:impact", "List whom the loss of nodes hit."),
            "queue": ("demand:queue", "Say how long the queue is, and what is in use."),
            "demand": ("demand:demand", "Say what was asked for, queued and unmet over time."),
            "outage": ("outages:outage_app", "Look at outages: what failed, whom it hit."),
            "contact": ("contacts:contact_app", "Say how you are told of outages."),
            "notice": ("notices:notice_app", "Look at who was told, and what they are told."),
            "usage": ("usage:usage", "Say what was used, when, by whom, and what was wasted."),
            "abuse": ("abuse:abuse_app", "List who broke the rules of use, and answer."),
            "ask": ("ask:ask", "Ask a projection; alone: list what can be asked."),
            "policy": ("policy:policy_app", "Show and change the policy."),
            "token": ("admin:token_app", "Issue, list and revoke tokens."),
            "whoami": ("admin:whoami", "Say who you are to the service."),
            "completion": ("completion:completion", "Let the shell complete commands."),
            "status": ("status:status", "Say how the service is."),
            "doctor": ("doctor:doctor", "Check the service, and say what to do."),
            "inspect": ("inspect:inspect", "Look inside the running master."),
        },
    ),
    (
        SERVICE,
        {
            "up": ("serve:up", "Run a whole service on this machine."),
            "master": ("serve:master", "Run the master."),
            "follow": ("serve:follow", "Keep the projections."),
            "agent": ("serve:agent", "Run the agent of a node."),
            "replay-trace": ("replay:replay_trace", "Submit a real cluster's trace."),
        },
    ),
    (
        LOG,
        {
            "log": ("logs:log_app", "Verify, export and import the log."),
            "projection": ("projection:projection_app", "The tables that answers come from."),
            "backup": ("backup:backup_app", "Back the log up, verify and restore it."),
            "db": ("logs:db_app", "The log's tables."),
            "import": ("import_:import_app", "Make another system's history a ledger."),
        },
    ),
]


def _version() -> str:
    try:
        return f"jobledger {version('jobledger')}"
    except PackageNotFoundError:
        return "jobledger unpackaged"


def build(asked: Collection[str] = ()) -> App:
    """The whole application. Commands that are `asked` for are described by their own docstrings,
    at full length; the others, whose modules are not loaded, and groups in the words above."""
    made = App(
        name="jobledger",
        help=HELP,
        version=_version,
        version_flags=["--version", "-V"],
        help_format="markdown",
        default_parameter=Parameter(show_default=False),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    made["--help"].group = SERVICE
    made["--version"].group = SERVICE
    for group, commands in COMMANDS:
        for name, (place, text) in commands.items():
            few = None if name in asked and not place.endswith("_app") else text
            made.command(f"ledger.cli.{place}", name=name, group=group, help=few)
    return made
