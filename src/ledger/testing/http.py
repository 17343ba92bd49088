"""The page `docs/reference/http.md`, made from the API's own description of itself."""

import inspect
import json
from pathlib import Path
from typing import Any

from ledger.api.app import create_app
from ledger.master.service import Service

Schema = dict[str, Any]

INTRO = """\
Everything that `jobledger` does it does through these routes; whatever it can do, so can you.

Made from the API's own description, which the service gives at `GET /v1/openapi.json`; change the
code and run `make docs`.

## Asking

Every request needs a credential; there is no route without one. On the master's machine the Unix
socket `DIR/jobledger.sock` knows your account; everywhere else send `Authorization: Bearer TOKEN`.
[Permissions](permissions.md) says who may do what.

```
curl --unix-socket DIR/jobledger.sock http://ledger/v1/whoami
curl -H "Authorization: Bearer $JOBLEDGER_TOKEN" -H 'Content-Type: application/json' \\
     -H "Idempotency-Key: $(uuidgen)" -d '{"argv": ["/bin/hostname"]}' http://HOST:PORT/v1/jobs
```

| request header | meaning |
|---|---|
| `Idempotency-Key` | of `POST /v1/jobs`: a repeated request gets the first answer again |
| `X-Request-Id` | your name for this request: in the answer, the events, every log line |
| `X-Jobledger-Machine`, `X-Jobledger-Build` | where you ask from, and with what: recorded |
| `Last-Event-ID` | of `GET /v1/events`: go on behind this position |

| answer header | meaning |
|---|---|
| `X-Request-Id` | the request's name |
| `Ledger-Position` | the position in the log that the answer is true at |
| `Ledger-Lag` | by how many positions that was behind the log when you asked |
| `Jobledger-Epoch` | the number of the master's reign |
| `Retry-After` | seconds, where a request may be repeated |

Bodies are UTF-8 JSON, unknown fields are refused, of a field that stands there twice the last
counts. A body has at most 1 MiB, a submission 16 MiB and 10,000 jobs, a piece of output 4 MiB.
Times are RFC 3339 in UTC, durations seconds.

A refusal is `application/problem+json` (RFC 9457): `code` for programs, `detail` and `hint` for
people, `request` to ask us about. [Refusals](errors.md) lists every code. 503 and 429 may be
repeated, a submission under the same key: it is carried out once.

Answers about what lives come from the master's state; those about the past come from projections,
which are waited for, up to two seconds, until they know what the log held when you asked.
`?at_least=POSITION` insists on a position (503 `behind`), `?stale=ok` waits for nothing.
`?at=TIME` or `?at_position=POSITION` asks as of then: the last commit that had happened, which
`Ledger-Position` names. Routes without these parameters refuse them (422 `present_only`)."""

TITLES = {
    "jobs": "Jobs",
    "answers": "Output, events, outages",
    "nodes": "Nodes",
    "service": "The service",
    "agents": "Agents",
}


def http_page() -> str:
    """Every route with what it takes and gives, and every body's fields."""
    document = create_app(Service(Path(), None, frozenset())).openapi()
    blocks = ["# HTTP", INTRO]
    for tag, title in TITLES.items():
        blocks.append(f"## {title}")
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if operation["tags"] == [tag]:
                    blocks += _route(method.upper(), path, operation)
    blocks.append("## Bodies")
    for name, schema in sorted(document["components"]["schemas"].items()):
        if "properties" in schema:
            blocks += [
                f"### {name}",
                inspect.cleandoc(schema.get("description", "")),
                _fields(schema),
            ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _route(method: str, path: str, operation: Schema) -> list[str]:
    blocks = [f"### `{method} {path}`", inspect.cleandoc(operation["description"])]
    rows = [
        f"| `{p['name']}` | {p['in']} | {_type(p['schema'])} | {_default(p['schema'])} |"
        for p in operation.get("parameters", [])
        if p["in"] != "path"
    ]
    if rows:
        blocks.append(
            "\n".join(["| parameter | in | type | default |", "|---|---|---|---|", *rows])
        )
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        blocks.append("Takes " + _kinds(body) + ".")
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            blocks.append(f"Answers {status} with {_kinds(response['content'])}.")
    return blocks


def _kinds(content: Schema) -> str:
    return " or ".join(
        f"{_type(what['schema'])} (`{kind}`)" if "$ref" in str(what["schema"]) else f"`{kind}`"
        for kind, what in content.items()
    )


def _fields(schema: Schema) -> str:
    required = set(schema.get("required", []))
    lines = ["| field | type | default |", "|---|---|---|"]
    for name, field in schema["properties"].items():
        default = "" if name in required else _default(field)
        lines.append(f"| `{name}` | {_type(field)} | {default} |")
    return "\n".join(lines)


def _default(field: Schema) -> str:
    value = field.get("default")
    if value is None:
        return "null" if "default" in field else ""
    return f"`{json.dumps(value)}`"


def _type(schema: Schema) -> str:
    """A schema in words, with its bounds."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            return " or ".join(_type(part) for part in schema[choice])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"] if value != "") or "text"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" + _bounds(schema, "minItems", "maxItems")
    words = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    kind: str = schema.get("type", "anything")
    if schema.get("format") == "date-time":
        return "time"
    bounds = _bounds(schema, "minimum", "maximum") or _bounds(schema, "minLength", "maxLength")
    return words.get(kind, kind) + bounds


def _bounds(schema: Schema, least: str, most: str) -> str:
    low, high = (None if n is None else f"{n:.0f}" for n in (schema.get(least), schema.get(most)))
    if low is None and high is None:
        return ""
    if low is None:
        return f", at most {high}"
    return f", at least {low}" if high is None else f", {low} to {high}"
