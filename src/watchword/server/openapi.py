"""The OpenAPI 3.1 document, made of the same table and structs that serve the requests."""

import re
from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from watchword import wire
from watchword.jose.envelope import JoseMethod
from watchword.server.endpoint import By, Jose, Operation, QueryParameter
from watchword.server.examples import example_of

CALENDAR_PATTERN = r"^20[0-9]{2}Q[1-4]$"
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_REF = "#/components/schemas/{name}"
_OTT = {
    "name": "One-Time-Token",
    "in": "header",
    "required": True,
    "description": "The token, as the 403 of the protected call named it in x-2fa-approval.",
    "schema": {
        "type": "string",
        "format": "uuid",
        "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
    },
}
_CORRELATION_ID = {
    "name": "X-External-Correlation-Id",
    "in": "header",
    "required": False,
    "description": "Echoed in the answer if it has at most 36 characters; ignored otherwise.",
    "schema": {"type": "string"},
}
_PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "version": {
        "description": "A calendar version; every one is served alike.",
        "schema": {"type": "string", "pattern": CALENDAR_PATTERN},
    },
    "userId": {"description": "A user.", "schema": {"type": "string", "pattern": "^[0-9]{1,16}$"}},
    "deviceFingerprintId": {
        "description": "A device fingerprint, as its creation or the list names it.",
        "schema": {"type": "string", "format": "uuid"},
    },
    "phoneNumberId": {
        "description": "A phone number, as its creation or the list names it.",
        "schema": {"type": "integer", "format": "int64"},
    },
    "keyId": {
        "description": "A key, as the application named it at its upload.",
        "schema": {"type": "string", "format": "uuid"},
    },
    "publicKeyId": {
        "description": "A public key, as its creation or the list names it.",
        "schema": {"type": "string", "format": "uuid"},
    },
    "profileId": {
        "description": "One of the caller's own profiles.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,19}$"},
    },
}
_JOSE = {
    "application/jose+json": {
        "schema": {
            "type": "string",
            "description": "A compact JWE, JWS, or JWS in a JWE, whose content is the JSON.",
            "pattern": r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*){2,4}$",
        },
        "example": (
            "eyJlbmMiOiJBMjU2R0NNIiwiYWxnIjoiZGlyIn0..gTnxA4uYrCTWVNp1.7dQFDhBJ.Ch8Nk4IRIeyeIuSGVQk1tA"
        ),
    }
}
_DESCRIPTIONS = {
    400: "The request is malformed, or the challenge cannot be answered this way; `code` tells which.",
    401: "There is no valid access token.",
    403: "The access token is of another kind, the profile is not the user's, a step-up is asked for, or too"
    " little is enrolled.",
    404: "There is no such path, or no such token: unknown, expired, spent and another's look the same.",
    408: "The body took too long to arrive.",
    409: "It is there already.",
    413: "The body is larger than 64 KiB; a face map's, than 4 MiB.",
    415: "The body is in a form that this call does not take.",
    422: "The phone number is none, or belongs to another user, or the user has one.",
    429: "Too many failures or too many codes; `Retry-After` tells when to come back.",
    503: "Nothing was decided, or the code could not be delivered. Try again.",
}
_EVERYWHERE = (401, 403, 503)
_NAMED = (400, 404)
"""Where the path names something: a version, a user."""


def document(operations: Iterable[Operation]) -> bytes:
    """Describe *operations*."""
    operations = list(operations)
    shapes = {
        shape for entry in operations for shape in (entry.body, entry.answer) if shape not in {None, str}
    }
    _, schemas = msgspec.json.schema_components(
        [*sorted(shapes, key=str), wire.ErrorAnswer, wire.BearerErrorAnswer], ref_template=_REF
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        for number, path in enumerate(operation.paths):
            described = paths.setdefault(_PARAMETER.sub(r"{\1}", path), {})
            described[operation.method.lower()] = _operation(operation, path, number)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Watchword",
                "version": version("watchword"),
                "description": "One-time tokens: what a step-up asks for, and how to answer it.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    by.name.lower(): {"type": "http", "scheme": "bearer", "description": by.value}
                    for by in By
                },
            },
        }
    )


def _operation(operation: Operation, path: str, number: int) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, **_PATH_PARAMETERS[name]}
        for name in _PARAMETER.findall(path)
    ]
    if operation.takes_ott:
        parameters.append(_OTT)
    parameters += [_query(parameter) for parameter in operation.query]
    if operation.jose is not None:
        parameters.append(_jose_method(operation.jose))
    parameters.append(_CORRELATION_ID)
    described: dict[str, Any] = {
        "operationId": operation.name if number == 0 else f"{operation.name}-{number + 1}",
        "summary": operation.summary,
        "security": [{operation.by.name.lower(): []}],
        "parameters": parameters,
        "responses": {
            str(operation.status): _success(operation),
            **{
                str(status): _error(status, jose=operation.jose is not None)
                for status in sorted({*_EVERYWHERE, *operation.errors, *(_NAMED if "{" in path else ())})
            },
        },
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _body(operation)}
    return described


def _jose_method(jose: Jose) -> dict[str, Any]:
    return {
        "name": "X-TW-JOSE-Method",
        "in": "header",
        "required": jose.only is not None,
        "description": "How the body is sealed, and the answer with it. Without it both are plain JSON.",
        "schema": {"type": "string", "enum": list(JoseMethod) if jose.only is None else [jose.only]},
    }


def _body(operation: Operation) -> dict[str, Any]:
    jose = operation.jose
    return (_json(operation.body) if jose is None or jose.only is None else {}) | (
        {} if jose is None else _JOSE
    )


def _query(parameter: QueryParameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if parameter.values:
        schema["enum"] = list(parameter.values)
    if parameter.pattern:
        schema["pattern"] = parameter.pattern
    return {
        "name": parameter.name,
        "in": "query",
        "required": bool(parameter.values),
        "description": parameter.description,
        "schema": schema,
    }


def _success(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"description": "As asked."}
    if operation.answer is str:
        described["content"] = {"text/plain": {"schema": {"type": "string"}}}
    elif operation.answer is not None:
        jose = operation.jose
        plain = _json(operation.answer) if jose is None or jose.only is None else {}
        described["content"] = plain | ({} if jose is None else _JOSE)
    return described


def _error(status: int, *, jose: bool = False) -> dict[str, Any]:
    unauthorized = status == HTTPStatus.UNAUTHORIZED
    content = _json(wire.BearerErrorAnswer if unauthorized else wire.ErrorAnswer)
    if jose and status == HTTPStatus.BAD_REQUEST:
        # An envelope that cannot be opened is told in OAuth's shape, as the public API does.
        other = _json(wire.BearerErrorAnswer)["application/json"]["schema"]
        content["application/json"]["schema"] = {"anyOf": [content["application/json"]["schema"], other]}
    described: dict[str, Any] = {"description": _DESCRIPTIONS[status], "content": content}
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        described["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return described


def _json(shape: Any) -> dict[str, Any]:  # noqa: ANN401 - a struct, or a list of them.
    schema, example = _described(shape)
    return {"application/json": {"schema": schema, "example": example}}


@cache  # An operation has an error for each status, and most have the same shape.
def _described(shape: Any) -> tuple[Any, Any]:  # noqa: ANN401 - as above.
    (schema,), _ = msgspec.json.schema_components([shape], ref_template=_REF)
    return schema, example_of(shape)
