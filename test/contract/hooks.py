"""What schemathesis should know about Atlas that an OpenAPI document has no words for.

Everything here is about valid requests: it gives them values that exist, and it knows which of them may be refused nevertheless. Invalid requests
are left as they are.
"""

import io
import json
import os
import re
import uuid
import zipfile
import zlib

import schemathesis
from hypothesis import strategies as st
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData

with open(os.environ["ATLAS_KNOWN"], encoding="utf-8") as file:
    KNOWN = json.load(file)

# What a valid request may be refused for, by the problem's kind and a part of its message: rules that JSON Schema can't state, or that depend on
# what is stored. Any other refusal of a valid request is a defect.
REFUSALS = [
    ("invalid-request", "is not next_cursor of a page of this list"),  # cursors are signed
    ("invalid-request", "is required, because you are not a platform admin"),
    ("precondition-failed", "the current version is"),
    ("idempotency-key-reused", "was used with another request"),
    ("validation", "is not the e-mail of an account"),
    ("validation", "is not the current password"),
    ("validation", "must not be blank"),  # U+0085 is white space in Unicode, but not for \s in a pattern of JSON Schema
    ("validation", "must be an e-mail address"),  # the pattern lets some control characters and look-alikes through
    ("validation", "must be an http or https URL"),  # and so does this one
    ("validation", "must have a host name or an IP address"),
    ("validation", "is the tag to merge into"),
    ("validation", "may contain admin only for a platform admin"),
    ("validation", "only platform admins can name another"),  # the folder in a path is the collection's
    ("validation", "is no name of a file"),  # a segment too long for a file system
    ("validation", "must be in the future and at most 366 days away"),
    ("validation", "must be at most 366 days away"),
    ("validation", "is not usable: the cron expression"),
    ("validation", "is not usable: the time zone"),
]

CURSOR = re.compile(r"^[A-Za-z0-9_-]{40,}$")
ETAG = re.compile(r'^"\d+"$')


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Accepts the refusals above, each error of a problem being one of them, and that an import tells of bad lines in its answer: any text is a string."""
    if isinstance(failure, AcceptedNegativeData) and operation_id(case) in ("importNDJSON", "importMarkdown"):
        return response.json()["failed"] == 0
    if not isinstance(failure, RejectedPositiveData):
        return True
    problem = response.json()
    kind = problem["type"].removeprefix("urn:atlas:problem:")
    messages = [error["message"] for error in problem.get("errors", [])] or [problem.get("detail", "")]
    return not all(any(kind == k and part in message for k, part in REFUSALS) for message in messages)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Gives valid requests values that exist, and keeps the test's own people out of harm's way."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    operation = operation_id(case)
    headers, query = dict(case.headers or {}), dict(case.query or {})
    if "Idempotency-Key" in headers:  # a key that is new: one that is used again gets the answer of the first request
        headers["Idempotency-Key"] = headers["Idempotency-Key"][:-36] + str(uuid.uuid4())
    if "If-Match" in headers and not ETAG.match(headers["If-Match"]) and sometimes(headers["If-Match"]):
        headers["If-Match"] = "*"
    if "cursor" in query and not CURSOR.match(str(query["cursor"])) and sometimes(str(query["cursor"])):
        del query["cursor"]
    if headers != dict(case.headers or {}):
        case.headers = headers
    if query != dict(case.query or {}):
        case.query = query
    if operation == "updateUser" and case.path_parameters.get("id") in KNOWN["people"]:
        case.path_parameters = {"id": KNOWN["guest"]}
    if isinstance(case.body, dict):
        prepare_body(operation, case)


def operation_id(case):
    return case.operation.definition.raw.get("operationId")


def prepare_body(operation, case):
    """Names people who have an account, addresses that are some, and times that are in the future."""
    body = dict(case.body)
    if operation in ("addMember", "transferCollection") and sometimes(str(body.get("email"))):
        body["email"] = KNOWN["guests"][len(str(body.get("email"))) % len(KNOWN["guests"])]
    if operation in ("register", "createUser") and sometimes(str(body.get("email"))):
        body["email"] = f"{zlib.crc32(repr(body).encode('utf-8', 'replace'))}@example.com"
    if isinstance(body.get("source_url"), str) and sometimes(body["source_url"]):  # few texts that the pattern allows are URLs
        body["source_url"] = f"https://example.com/{len(body['source_url'])}"
    if operation == "login" and sometimes(str(body.get("email"))):
        body = dict(KNOWN["login"])
    if operation == "changePassword" and (sometimes(str(body.get("current_password"))) or body.get("current_password") == KNOWN["login"]["password"]):
        body = {"current_password": KNOWN["login"]["password"], "new_password": KNOWN["login"]["password"]}
    if operation in ("createSchedule", "updateSchedule") and sometimes(str(body)):  # few texts that the patterns allow are moments and zones
        body |= {name: value for name, value in {"cron": "30 3 * * 1", "time_zone": "Europe/Zurich"}.items() if name in body}
    job = body if operation == "createJob" else body.get("job") if operation in ("createSchedule", "updateSchedule") else None
    parameters = job.get("parameters") if isinstance(job, dict) else None
    if isinstance(parameters, dict) and isinstance(parameters.get("path"), str) and sometimes(parameters["path"]):  # its own folder
        named = {"path": f"{job.get('type')}s/{parameters.get('collection_id')}/{len(parameters['path'])}"}
        body = job | {"parameters": parameters | named} if job is body else body | {"job": job | {"parameters": parameters | named}}
    if operation == "createToken" and sometimes(str(body.get("name"))):
        body["expires_at"] = KNOWN["tomorrow"]
    if body != case.body:
        case.body = body


def sometimes(value):
    """Says yes for most values, and for the same ones in each run."""
    return zlib.crc32(value.encode("utf-8", "replace")) % 4 != 0


def portable():
    """Items as an export has them, most of them right."""
    title = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=50)
    return st.fixed_dictionaries(
        {"title": title},
        optional={
            "content": st.text(max_size=200),
            "tags": st.lists(st.text(max_size=20), max_size=3),
            "metadata": st.dictionaries(st.text(max_size=10), st.none() | st.integers() | st.text(max_size=10), max_size=3),
            "source_url": st.sampled_from(["https://example.com/a", "https://example.com/b?utm_source=c", "ftp://example.com"]),
            "id": st.uuids().map(str),
        },
    )


def ndjson(items):
    return "\n".join(json.dumps(item) for item in items)


def archive(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for number, (item, content) in enumerate(files):
            matter = json.dumps({k: v for k, v in item.items() if k != "content"})  # JSON is YAML
            packed.writestr(f"{number}.md", f"---\n{matter}\n---\n\n{content}")
    return out.getvalue()


@schemathesis.serializer("application/x-ndjson")
def send_ndjson(context, value):
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.hook.apply_to(operation_id="importNDJSON")
def before_generate_body(context, strategy):
    return st.lists(portable(), min_size=1, max_size=4).map(ndjson) | strategy


schemathesis.openapi.media_type("application/zip", st.lists(st.tuples(portable(), st.text(max_size=200)), max_size=4).map(archive))
