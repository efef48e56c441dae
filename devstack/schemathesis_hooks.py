"""What `make api-test` does beside Schemathesis' own checks, and where it keeps requests from being of no use.

A request that its schema allows may be refused with 422, where `schemathesis.toml` says so: for a rule that no schema can say,
such as an unknown SKU. The checks here keep that exact: such a rule has a code of its own, and the operation documents it.
"""

import itertools
import os

import schemathesis

OWN_KEY = os.environ["HOLDFAST_API_KEY_ID"]
NO_KEY = "key_" + "0" * 32

# Sent with some of the answers of a status only.
SOMETIMES = {"idempotent-replayed", "retry-after"}

keys = itertools.count(1)


def is_positive(case):
    return case.meta is not None and case.meta.generation.mode.is_positive


def without_fractions(value):
    """To JSON Schema 1.0 is an integer, and no schema can say otherwise. The API takes 1, and says so in words."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [without_fractions(item) for item in value]
    if isinstance(value, dict):
        return {key: without_fractions(item) for key, item in value.items()}
    return value


@schemathesis.hook
def before_call(ctx, case, kwargs):
    case.body = without_fractions(case.body)
    # The key of the run must live as long as the run.
    if (case.path_parameters or {}).get("id") == OWN_KEY and case.method == "POST":
        case.path_parameters["id"] = NO_KEY
    # Most generated keys are the same few, and a key that was used for another request says nothing about this one.
    data = case.meta.phase.data if case.meta is not None else None
    if is_positive(case) and "Idempotency-Key" in case.headers:
        if getattr(data, "parameter", None) != "Idempotency-Key":
            case.headers["Idempotency-Key"] = f"request-{next(keys)}"


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx, value):
    # What is no text cannot be sent as one; nothing is no file either.
    return value.encode() if isinstance(value, str) else b""


def definition_of(case, response):
    return case.operation.definition.raw["responses"].get(str(response.status_code))


@schemathesis.check
def problem_code_conformance(ctx, response, case):
    """A problem has a code that the operation documents; what a schema allows is not `validation_failed`."""
    definition = definition_of(case, response)
    if response.status_code < 400 or definition is None:
        return
    code = response.json()["code"]
    documented = definition["content"]["application/problem+json"]["examples"]
    assert code in documented, f"{response.status_code} {code} is not documented: {sorted(documented)}"
    assert not (is_positive(case) and code == "validation_failed"), (
        f"the schema allows what validation refuses: {response.json()['errors']}"
    )


@schemathesis.check
def response_headers_presence(ctx, response, case):
    """An answer has every header that is documented for it."""
    definition = definition_of(case, response)
    if definition is None:
        return
    expected = {name.lower() for name in definition.get("headers", {})} - SOMETIMES
    missing = sorted(expected - set(response.headers))
    assert not missing, f"documented and not sent: {missing}"
