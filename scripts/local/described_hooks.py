"""Puts planted ids and names into requests, and finds planted data in responses. `PLANTED` is from `described.py`."""

import json
import os
import urllib.parse
import uuid
import zlib

import schemathesis

PLANTED = json.loads(os.environ["PLANTED"])
LONGEST_QUERY = 32


def is_id(value):
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False


def replaced(value, planted):
    """Returns one of the planted values for two of three values: the same for the same value."""
    choice = zlib.crc32(value.encode("utf-8", "surrogatepass")) % (len(planted) + 1)
    return (planted + [value])[choice]


@schemathesis.hook
def map_path_parameters(_context, path_parameters):
    for name, planted in (("chat", PLANTED["chats"]), ("user", PLANTED["users"])):
        # What is no id stays: it is to be refused.
        if path_parameters and is_id(path_parameters.get(name)):
            path_parameters[name] = replaced(path_parameters[name], planted)
    return path_parameters


@schemathesis.hook
def map_query(_context, query):
    for name in ("query", "username"):
        value = (query or {}).get(name)
        if isinstance(value, str) and value.isascii() and value.isprintable() and 1 <= len(value) <= LONGEST_QUERY:
            query[name] = replaced(value, PLANTED["usernames"])
    return query


@schemathesis.hook
def map_body(_context, body):
    members = body.get("members") if isinstance(body, dict) else None
    if isinstance(members, list) and members and is_id(members[0]):
        body["members"] = [replaced(members[0], PLANTED["users"]), *members[1:]]
    return body


@schemathesis.check
def no_foreign_data(_context, response, case):
    request, received = response.request, response.text + str(dict(response.headers))
    body = request.body or b""
    # A caller may be shown its own words.
    sent = urllib.parse.unquote(request.url) + (body if isinstance(body, str) else body.decode("utf-8", "replace"))
    found = [value for value in PLANTED["closed"] if value in received and value not in sent]
    if found:
        raise AssertionError(f"{case.method} {case.path} returned what the caller must not see: {found}")
