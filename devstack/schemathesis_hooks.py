"""What `make api-test` does beside Schemathesis' own checks, and where it keeps requests from being of no use.

A request that its schema allows may be refused with 422, where `schemathesis.toml` says so: for a rule that no schema can say,
such as an unknown SKU. The checks here keep that exact: such a rule has a code of its own, and the operation documents it.
"""

import itertools
import os
from urllib.parse import quote, unquote

import schemathesis

OWN_KEY = os.environ["HOLDFAST_API_KEY_ID"]
NO_KEY = "key_" + "0" * 32

# What orders are placed for: `api-test-stock.csv`.
STOCK = {"TEE-BLACK-M", "CAP-RED", "MUG-WHITE"}

# Sent with some of the answers of a status only: those of limits with what is answered to a valid key.
SOMETIMES = {"idempotent-replayed", "ratelimit", "ratelimit-policy", "retry-after"}

numbers = itertools.count(1)


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


def spare_what_the_run_needs(case):
    """The key of the run is not revoked, and its stock is neither counted down nor limited."""
    path = case.path_parameters or {}
    if case.method == "POST" and path.get("id") == OWN_KEY:
        path["id"] = NO_KEY
    if case.method == "PUT" and path.get("sku") in STOCK:
        path["sku"] = f"OTHER-{path['sku']}"


def keep_to_the_pattern(case):
    """In a path a name now and then holds a control character, although its pattern allows visible characters only."""
    for name, value in (case.path_parameters or {}).items():
        text = unquote(value) if isinstance(value, str) else ""
        if not text.isprintable():
            visible = "".join(c for c in text if c.isprintable())
            case.path_parameters[name] = quote(visible, safe="") or "x"


def make_new(case):
    """Generated keys and references are the same few, and one that was used before says nothing about this request."""
    tested = getattr(case.meta.phase.data, "parameter", None)
    if "Idempotency-Key" in case.headers and tested != "Idempotency-Key":
        case.headers["Idempotency-Key"] = f"request-{next(numbers)}"
    # Some stay as they are: then it is 409 `duplicate_client_reference`.
    if isinstance(case.body, dict) and case.body.get("client_reference") and next(numbers) % 4:
        case.body["client_reference"] = f"order-{next(numbers)}"


def mean_any_version(case):
    """A thing that is made by its PUT has no version before, and a made-up one is not that of a thing that is there."""
    tested = getattr(case.meta.phase.data, "parameter", None)
    if case.method == "PUT" and tested != "If-Match" and next(numbers) % 4:
        case.headers.pop("If-Match", None)


def walk_on(case):
    """Most steps of a walk are to succeed, or no walk gets as far as a delivery. Fuzzing sends what is left out here."""
    if case.meta.phase.name.value != "stateful" or next(numbers) % 4 == 0:
        return
    case.headers.pop("If-Match", None)
    if case.path == "/v1/orders/{id}/payments":
        case.headers["Prefer"] = "wait=2"
    # Made-up ids of lines are of no order; without them it is all of them.
    if isinstance(case.body, dict) and "{id}" in case.path:
        for field in ("amount", "lines", "location_id"):
            case.body.pop(field, None)


@schemathesis.hook
def before_call(ctx, case, kwargs):
    case.body = without_fractions(case.body)
    spare_what_the_run_needs(case)
    if is_positive(case):
        keep_to_the_pattern(case)
        make_new(case)
        mean_any_version(case)
        walk_on(case)


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx, value):
    # What is no text cannot be sent as one; nothing is no file either.
    return value.encode() if isinstance(value, str) else b""


def definition_of(case, response):
    found = case.operation.responses.find_by_status_code(response.status_code)
    return found and found.definition


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
