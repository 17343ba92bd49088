"""Whose uid a job gets. Root must choose with care; any other agent can only be itself."""

import os
import pwd
from typing import NamedTuple

FIRST_PERSON_UID = 1000
"""Accounts below it belong to the system, never to a person."""


class NoSuchAccount(Exception):
    """There is no account on this machine that the job may run as; the text says why."""


class Account(NamedTuple):
    """A system account. `switch`: the agent is root and must take this identity for the job."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    switch: bool


def account_for(user: str, run_as: str = "") -> Account:
    """The account that runs a job of the subject `user`, or NoSuchAccount.

    May ask a directory service, so it may block: call it in a thread.
    """
    if os.geteuid() != 0:
        own = pwd.getpwuid(os.geteuid())
        if run_as and run_as != own.pw_name:
            raise NoSuchAccount(f"only an agent that is root can run jobs as {run_as}")
        return Account(own.pw_name, own.pw_uid, own.pw_gid, (), own.pw_dir, False)
    name = run_as or user
    try:
        found = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise NoSuchAccount(f"this node has no account {name}") from None
    if found.pw_uid == 0:
        raise NoSuchAccount(f"{name} is root, and a job is never run as root")
    if not run_as and found.pw_uid < FIRST_PERSON_UID:
        raise NoSuchAccount(f"{name} is a system account (uid below {FIRST_PERSON_UID})")
    groups = tuple(os.getgrouplist(found.pw_name, found.pw_gid))
    return Account(found.pw_name, found.pw_uid, found.pw_gid, groups, found.pw_dir, True)
