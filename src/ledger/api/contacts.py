"""Routes about contacts: how users and support desks are told. Addresses hold secrets, so what is
shown of them is their scheme and host, to their owners and operators alone."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query

from ledger.api.auth import Caller, Who
from ledger.commands import SetContact
from ledger.domain.errors import Malformed, Unknown
from ledger.domain.permissions import may
from ledger.domain.state import Cluster
from ledger.effects import channels
from ledger.effects.channels import BadChannel, Channel
from ledger.effects.digest import Letter
from ledger.events import Blob
from ledger.models import NAME, ChannelOut, ContactIn, ContactOut, ContactsOut, DoneOut, TriedOut

router = APIRouter(prefix="/v1/contacts", tags=["contacts"])

Owner = Annotated[str, Path(pattern=NAME, max_length=64)]
Desk = Annotated[bool, Query(description="It is a support desk, not a user.")]
_encode = msgspec.json.Encoder().encode

HINT = "docs/how-to/be-told.md shows what an address may be."
TRIAL = Letter(
    "A test message of jobledger",
    "This is how you will be told of outages that hit your jobs. Nothing has happened.\n",
)


@router.get("")
async def list_contacts(who: Who) -> ContactsOut:
    """How people and desks are told, desks first. Users see how they are told themselves."""
    if not may(who.subject, "contact.see"):
        who.demand("contact.see", who.subject.name)
        mine = await _shown(who, who.subject.name, desk=False)
        return ContactsOut(contacts=[mine] if mine.channels else [], position=mine.position)
    cluster: Cluster = await who.running.master.settled()
    known = sorted(cluster.recipients, key=lambda whom: (not whom[1], whom[0]))
    return ContactsOut(
        contacts=[await _shown(who, owner, desk=desk) for owner, desk in known],
        position=cluster.position,
    )


@router.get("/{owner}")
async def show_contact(who: Who, owner: Owner, desk: Desk = False) -> ContactOut:
    """How one is told; without channels: not at all."""
    who.demand("contact.see", "" if desk else owner)
    return await _shown(who, owner, desk=desk)


@router.put("/{owner}")
async def set_contact(who: Who, owner: Owner, body: ContactIn) -> ContactOut:
    """Say how one is told, from now on so and not otherwise."""
    who.demand("contact.set", "" if body.desk else owner)
    outbox = who.running.outbox
    try:
        found = [channels.parse(address) for address in dict.fromkeys(body.addresses)]
        channels.demand(found, None if may(who.subject, "contact.set") else outbox.post.schemes)
    except BadChannel as bad:
        raise Malformed(f"This can't be a contact: {bad}.", hint=HINT) from None
    urls = [channel for channel in found if not channel.mail]
    for channel, fault in zip(urls, await outbox.check(urls), strict=True):
        if fault:
            raise Malformed(f"{channel.shown} can't be a contact: {fault}.", hint=HINT)
    text = _encode([channel.address for channel in found])
    blob = Blob(sha256=sha256(text).hexdigest(), bytes=len(text))
    schemes = tuple(dict.fromkeys(channel.scheme for channel in found))
    await _set(who, SetContact(owner=owner, desk=body.desk, channels=schemes, addresses=blob), text)
    return await _shown(who, owner, desk=body.desk)


@router.delete("/{owner}")
async def remove_contact(who: Who, owner: Owner, desk: Desk = False) -> DoneOut:
    """Forget how one is told: a user is told as the site does by default, a desk not at all."""
    changed = await _set(who, SetContact(owner=owner, desk=desk), b"")
    return DoneOut(state="removed", changed=changed, position=who.running.master.head.position)


@router.post("/{owner}/test")
async def try_contact(who: Who, owner: Owner, desk: Desk = False) -> TriedOut:
    """Send one a test message, at most once a minute, and say what came of it."""
    who.demand("contact.set", "" if desk else owner)
    cluster: Cluster = await who.running.master.settled()
    outbox = who.running.outbox
    found = await outbox.channels(cluster, owner, desk)
    if not found:
        raise Unknown(
            f"There is no way known to tell {owner}.", hint="Set one: `jobledger contact set`."
        )
    outbox.allow_trial(owner, desk)
    said = await outbox.reach(found, TRIAL, "test")
    return TriedOut(channels=[_channel(channel, fault) for channel, fault in said])


async def _set(who: Caller, command: SetContact, text: bytes) -> bool:
    master = who.running.master
    blobs = {command.addresses.sha256: text} if command.addresses else {}
    done = await master.ask_one(who.subject, command, via=who.via, request=who.id, blobs=blobs)
    return bool(done.events)


async def _shown(who: Caller, owner: str, *, desk: bool) -> ContactOut:
    cluster: Cluster = await who.running.master.settled()
    found = await who.running.outbox.channels(cluster, owner, desk)
    return ContactOut(
        owner=owner,
        desk=desk,
        by_default=bool(found) and (owner, desk) not in cluster.recipients,
        channels=shown_channels(found, who.running.outbox.post.mail),
        position=cluster.position,
    )


def shown_channels(found: Sequence[Channel], mail: str) -> list[ChannelOut]:
    """Channels, and why nothing can go out over one, as far as that can be seen from here."""
    shown = []
    for channel in found:
        problem = ""
        try:
            channels.url(channel, mail)
        except BadChannel as bad:
            problem = str(bad)
        shown.append(_channel(channel, problem))
    return shown


def _channel(channel: Channel, problem: str) -> ChannelOut:
    return ChannelOut(scheme=channel.scheme, host=channel.host, problem=problem)
