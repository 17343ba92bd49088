"""Requests that nobody in his right mind sends: a name, a method, a path, headers, a body.

All are asked as an operator, so that only their form can be refused, and of a job 1 that is
pending and a node n1 that is drained.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}
DEEP = 100_000


class Hostile(NamedTuple):
    """One request. `fine`: it may as well be taken, where it is odd and not wrong."""

    name: str
    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, Any] = JSON
    fine: bool = False


def job(field: str, value: str) -> bytes:
    """A job with one field as it should not be; `value` is JSON."""
    argv = "" if field == "argv" else '"argv":["/bin/true"],'
    return ("{{{}{}:{}}}".format(argv, f'"{field}"', value)).encode("utf-8", "surrogatepass")


TEXTS = {
    "nul": r'"a\u0000b"',
    "escape": r'"\u001b[2J"',
    "bell": r'"\u0007"',
    "delete": r'"\u007f"',
    "c1": r'"\u0085"',
    "right-to-left": r'"\u202egnp.exe"',
    "isolate": r'"\u2066a\u2069"',
    "line-separator": r'"\u2028"',
    "high-surrogate": r'"\ud800"',
    "low-surrogate": r'"\udc00"',
    "surrogates-turned": r'"\udc00\ud800"',
    "raw-surrogate": '"\ud800"',
    "raw-newline": '"a\nb"',
    "long": '"' + "x" * 600_000 + '"',
    "number": "1",
    "list": '["a"]',
    "object": "{}",
    "null": "null",
    "true": "true",
}
TEXT_FIELDS = ("name", "comment", "script", "workdir", "account", "pool")
NUMBERS = {
    "zero": "0",
    "negative": "-1",
    "huge": "1" + "0" * 30,
    "beyond-64": "18446744073709551616",
    "endless": "9" * 5000,
    "half": "1.5",
    "float": "1e400",
    "nan": "NaN",
    "infinity": "Infinity",
    "text": '"3"',
    "true": "true",
    "list": "[1]",
    "null": "null",
}


def requests() -> Iterator[Hostile]:
    """All of them."""
    yield from _texts()
    yield from _numbers()
    yield from _json()
    yield from _jobs()
    yield from _elsewhere()
    yield from _queries()
    yield from _headers()
    yield from _agents()


def _texts() -> Iterator[Hostile]:
    for field in TEXT_FIELDS:
        for name, value in TEXTS.items():
            yield Hostile(f"{field} {name}", "POST", "/v1/jobs", job(field, value))
    for name, value in TEXTS.items():
        yield Hostile(f"argv {name}", "POST", "/v1/jobs", job("argv", f"[{value}]"))
        if name not in ("null", "true"):
            body = (f'{{"note":{value}}}').encode("utf-8", "surrogatepass")
            yield Hostile(f"note {name}", "POST", "/v1/jobs/1/hold", body)
        body = (f'{{"reason":{value}}}').encode("utf-8", "surrogatepass")
        yield Hostile(f"reason {name}", "POST", "/v1/nodes/n1/resume", body)
        body = (f'{{"owner":{value}}}').encode("utf-8", "surrogatepass")
        yield Hostile(f"owner {name}", "POST", "/v1/tokens", body)


def _numbers() -> Iterator[Hostile]:
    for name, value in NUMBERS.items():
        for field in ("nodes", "time_limit_s"):
            yield Hostile(f"{field} {name}", "POST", "/v1/jobs", job(field, value))
        depends = f'[{{"kind":"afterok","job":{value}}}]'
        yield Hostile(f"depends {name}", "POST", "/v1/jobs", job("depends", depends))
        if name != "null":
            body = b'{"job_lease_s":%s}' % value.encode()
            yield Hostile(f"policy {name}", "PATCH", "/v1/policy", body)
        if name != "zero":
            body = b'{"owner":"x","ttl_s":%s}' % value.encode()
            yield Hostile(f"ttl {name}", "POST", "/v1/tokens", body)


def _json() -> Iterator[Hostile]:
    bodies: dict[str, bytes] = {
        "nothing": b"",
        "spaces": b"   ",
        "open": b"{",
        "cut": b'{"argv":["/bin/tr',
        "comma": b'{"argv":["x"],}',
        "two": b'{"argv":["x"]}{"argv":["y"]}',
        "single-quotes": b"{'argv':['x']}",
        "comment": b'{"argv":["x"]} // so',
        "null": b"null",
        "number": b"7",
        "text": b'"job"',
        "nul-byte": b'{"argv":["x\x00"]}',
        "mark": b'\xef\xbb\xbf{"argv":["x"]}',
        "utf-16": '{"argv":["x"]}'.encode("utf-16"),
        "latin-1": b'{"argv":["\xe9"]}',
        "overlong": b'{"argv":["\xc0\xaf"]}',
        "deep-list": b"[" * DEEP,
        "deep-object": b'{"a":' * DEEP,
        "deep-whole": b'{"argv":' + b"[" * DEEP + b"]" * DEEP + b"}",
        "empty-list": b"[]",
        "lists": b"[[]]",
        "binary": bytes(range(256)),
        "xml": b"<job/>",
        "form": b"argv=x",
    }
    for name, body in bodies.items():
        for path in ("/v1/jobs", "/v1/jobs?items=each", "/v1/tokens", "/v1/jobs/1/hold"):
            yield Hostile(f"body {name} {path}", "POST", path, body)
        yield Hostile(f"lines {name}", "POST", "/v1/jobs", body, LINES)
        yield Hostile(f"sync {name}", "POST", "/v1/agents/n1/enrol", body)
    twice = b'{"argv":["/bin/true"],"held":true,"nodes":1,"nodes":2}'
    yield Hostile("twice the same field", "POST", "/v1/jobs", twice)
    line = b'{"argv":["x"]},{"argv":["y"]}'
    yield Hostile("two jobs a line", "POST", "/v1/jobs", line, LINES)
    yield Hostile("a list in lines", "POST", "/v1/jobs", b'[{"argv":["x"]}]', LINES)
    yield Hostile("lines closed early", "POST", "/v1/jobs", b'{"argv":["x"]}],[\n', LINES)


def _jobs() -> Iterator[Hostile]:
    fields: dict[str, list[str]] = {
        "argv": ["[]", '"/bin/true"', "[[]]", '["x",1]', '["%s"]' % ("x" * 40_000)],
        "features": ['["a b"]', '["\\u0000"]', '["a","a",1]', '["a"%s]' % (',"a"' * 40)],
        "exclude": ['["../n1"]', '["n[1-9]"]', "{}"],
        "depends": ['[{"kind":"before","job":1}]', '[{"job":1}]', '[{"kind":"afterok"}]', "[1]"],
        "begin_at": [
            '"tomorrow"',
            '"2090-01-01"',
            '"2090-01-01T00:00:00"',
            '"2090-13-01T00:00:00Z"',
            '"9999-12-31T23:59:59Z"',
            '"0001-01-01T00:00:00Z"',
            "-1",
            "1e300",
            "[]",
            "true",
            '"2090-01-01T00:00:00+99:00"',
            '"1969-12-31T23:59:59Z"',
        ],
        "restartable": ['"yes"', "1", "null", "[]"],
        "held": ['"true"', "0"],
        "array": [
            '"a-b"',
            '"3-1"',
            '"0-99999999"',
            '"1,1"',
            '"0-9:0"',
            '","',
            '"-"',
            "[0]",
            '"0-9 "',
        ],
        "workdir": ['"relative"', '"/a\\nb"', '"~"', '"/%s"' % ("x" * 2000)],
        "output_path": ['"out.txt"', '"/a\\u0000"'],
        "uid": ["0"],
        "user": ['"root"'],
        "env": ['{"LD_PRELOAD":"/x"}'],
        "__class__": ['"x"'],
        "": ["1"],
    }
    for field, values in fields.items():
        for i, value in enumerate(values):
            yield Hostile(f"{field or 'nameless'} {i}", "POST", "/v1/jobs", job(field, value))
    yield Hostile("nothing to run", "POST", "/v1/jobs", b"{}")
    yield Hostile("in a list", "POST", "/v1/jobs", b'[{"argv":["x"],"array":"0-1"}]')


def _elsewhere() -> Iterator[Hostile]:
    for text in (
        "0",
        "-1",
        "1_",
        "_1",
        "1_2_3",
        "x",
        "1.0",
        "\uff11",
        "9" * 16,
        "9" * 400,
        "%00",
        "%ff",
    ):
        yield Hostile(f"job {text[:20]}", "GET", f"/v1/jobs/{text}")
        yield Hostile(f"cancel {text[:20]}", "POST", f"/v1/jobs/{text}/cancel", b"{}")
    for text in ("nowhere", "%00", "..%2f..", "%0a", "n1%0a", "x" * 300, "%F0%9F%92%A9"):
        yield Hostile(f"node {text[:20]}", "GET", f"/v1/nodes/{text}")
        yield Hostile(f"drain {text[:20]}", "POST", f"/v1/nodes/{text}/drain", b"{}")
        yield Hostile(f"token {text[:20]}", "DELETE", f"/v1/tokens/{text}")
        if text != "nowhere":
            yield Hostile(f"enrol {text[:20]}", "POST", f"/v1/agents/{text}/enrol", b"{}")
    for body in (b'{"rack":"a\\u0000"}', b'{"pool":"a b"}', b'{"features":["",""]}', b'{"cpus":9}'):
        yield Hostile(f"configure {body[:12]!r}", "PATCH", "/v1/nodes/n1", body)
    for body in (
        b'{"job_lease_s":1}',
        b'{"kill_grace_s":-1}',
        b'{"number":1}',
        b'{"job_lease_s":"5"}',
    ):
        yield Hostile(f"policy {body!r}", "PATCH", "/v1/policy", body)
    for body in (b'{"time_limit_s":0}', b'{"nodes":2}', b'{"restartable":"no"}'):
        yield Hostile(f"change {body!r}", "PATCH", "/v1/jobs/1", body)
    yield Hostile("role", "POST", "/v1/tokens", b'{"owner":"x","role":"system"}')
    yield Hostile("reserved", "POST", "/v1/tokens", b'{"owner":"system"}')


def _queries() -> Iterator[Hostile]:
    for query in (
        "scope=dead",
        "limit=0",
        "limit=10001",
        "limit=x",
        "limit=1e3",
        "cursor=x",
        "cursor=-1",
        "order=up",
        "user=a%20b",
        "user=%00",
        "state=PENDING%00",
        "since=yesterday",
        "since=2026-01-01",
        "until=9999-12-31T23:59:59Z",
        "since=0001-01-01T00:00:00Z",
        "name=" + "x" * 300,
        "node=" + "x" * 65,
    ):
        yield Hostile(f"list {query[:30]}", "GET", f"/v1/jobs?{query}")
    for query in ("scope=all&cursor=" + "9" * 40, "scope=all&cursor=" + "9" * 19):
        yield Hostile(f"list {query[:40]}", "GET", f"/v1/jobs?{query}")
    for query in ("at_least=x", "at_least=-1", "at_least=" + "9" * 30):
        yield Hostile(f"all {query[:20]}", "GET", f"/v1/jobs?scope=all&{query}")
    for query in (
        "nodes=n[1-",
        "nodes=n[1-99999999]",
        "nodes=n[0-9]x[0-9]y[0-9999]",
        "nodes=%00",
        "since=x",
        "until=x",
        "nodes=@group",
        "nodes=@*",
    ):
        yield Hostile(f"impact {query}", "GET", f"/v1/impact?{query}", fine=query.endswith("%00"))
    for query in ("by=week", "zone=../../etc/passwd", "zone=Nowhere/Land", "since=x", "until=2026"):
        yield Hostile(f"usage {query}", "GET", f"/v1/usage?by=day&{query}")
        yield Hostile(f"demand {query}", "GET", f"/v1/demand?by=hour&{query}")
    for query in ("rule=rudeness", "user=a%20b", "unanswered=perhaps", "limit=0", "cursor=x"):
        yield Hostile(f"abuse {query}", "GET", f"/v1/abuse?{query}")
    for number in ("0", "-1", "x", "1.5", "9" * 30):
        yield Hostile(f"finding {number}", "GET", f"/v1/abuse/{number}")
        yield Hostile(f"answer {number}", "POST", f"/v1/abuse/{number}/answer", b'{"note":"x"}')
    for query in ("by=day", "by=pool,pool,pool,pool", "user=%00", "pool=" + "x" * 65):
        yield Hostile(f"queue {query[:20]}", "GET", f"/v1/queue?{query}")
    for query in ("after=-1", "after=x", "after=" + "9" * 30, "follow=perhaps"):
        yield Hostile(f"events {query[:20]}", "GET", f"/v1/events?{query}")
    for query in (
        "attempt=-1",
        "attempt=x",
        "offset=-1",
        "offset=" + "9" * 20,
        "wait_s=61",
        "wait_s=nan",
    ):
        yield Hostile(f"output {query[:20]}", "GET", f"/v1/jobs/1/output?{query}")
    for query in ("timeout_s=-1", "timeout_s=x", "timeout_s=nan", "timeout_s=inf", "timeout_s=1e9"):
        yield Hostile(f"wait {query}", "GET", f"/v1/jobs/1/wait?{query}")
    yield Hostile("items", "POST", "/v1/jobs?items=some", b'{"argv":["x"]}')


def _headers() -> Iterator[Hostile]:
    good = b'{"argv":["/bin/true"],"held":true}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x", ""):
        yield Hostile(f"type {kind}", "POST", "/v1/jobs", good, {"Content-Type": kind})
        yield Hostile(
            f"token type {kind}",
            "POST",
            "/v1/tokens",
            b'{"owner":"x"}',
            {"Content-Type": kind},
            fine=not kind,
        )
    for name, key in (
        ("space", "a b"),
        ("long", "k" * 129),
        ("control", b"a\x1fb"),
        ("raw", b"\xff"),
    ):
        yield Hostile(f"key {name}", "POST", "/v1/jobs", good, {**JSON, "Idempotency-Key": key})
    yield Hostile("method", "PUT", "/v1/jobs/1", b"{}")
    yield Hostile("made up", "BREW", "/v1/jobs")
    yield Hostile("path", "GET", "/v1/jobs/1/../../../etc/passwd/" + "x" * 100)
    yield Hostile("slashes", "GET", "//v1//jobs")


def _agents() -> Iterator[Hostile]:
    for field in (
        '"pool":"a b"',
        '"pool":"\\n"',
        '"serial":"\\u0000"',
        '"rack":"%s"' % ("x" * 301),
        '"features":["a","b c"]',
        '"features":[{}]'.format(",".join(f'"f{i}"' for i in range(40))),
        '"facts":{"cpus":-1}',
        '"facts":{"cpus":"4"}',
        '"facts":{"memory_bytes":1e30}',
        '"facts":{"memory_bytes":99999999999999999999}',
        '"switch":"\\u202e"',
        '"boot_id":7',
    ):
        body = (f"{{{field}}}").encode()
        yield Hostile(f"enrol {field[:30]}", "POST", "/v1/agents/n77/enrol", body)
