"""What `make api-test` checks beside Schemathesis' own checks, and the one thing that it must not do.

A request that its schema allows may be refused with 422, where `schemathesis.toml` says so: for a rule that no schema can say,
such as an unknown SKU. The checks here keep that exact: such a rule has a code of its own, and the operation documents it.
"""

import os

import schemathesis

OWN_KEY = os.environ["HOLDFAST_API_KEY_ID"]
NO_KEY = "key_" + "0" * 32

# Sent with some of the answers of a status only.
SOMETIMES = {"idempotent-replayed", "retry-after"}


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """The key of the run must live as long as the run."""
    if (case.path_parameters or {}).get("id") == OWN_KEY and case.method == "POST":
        case.path_parameters["id"] = NO_KEY


def _definition(case, response):
    return case.operation.definition.raw["responses"].get(str(response.status_code))


@schemathesis.check
def problem_code_conformance(ctx, response, case):
    """A problem has a code that the operation documents; what a schema allows is not `validation_failed`."""
    definition = _definition(case, response)
    if response.status_code < 400 or definition is None:
        return
    code = response.json()["code"]
    documented = definition["content"]["application/problem+json"]["examples"]
    assert code in documented, f"{response.status_code} {code} is not documented: {sorted(documented)}"
    is_positive = case.meta is not None and case.meta.generation.mode.is_positive
    assert not (is_positive and code == "validation_failed"), (
        f"the schema allows what validation refuses: {response.json()['errors']}"
    )


@schemathesis.check
def response_headers_presence(ctx, response, case):
    """An answer has every header that is documented for it."""
    definition = _definition(case, response)
    if definition is None:
        return
    expected = {name.lower() for name in definition.get("headers", {})} - SOMETIMES
    missing = sorted(expected - set(response.headers))
    assert not missing, f"documented and not sent: {missing}"
