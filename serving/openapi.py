"""The endpoint's OpenAPI document, from the routes as they are registered and the models and shapes that they name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from inspect import getdoc
from typing import Any

from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema
from starlette.routing import BaseRoute

from serving.operations import HEADERS, ID, errors
from serving.structured import NULLABLE, Wire

PLACE = "#/components/schemas/{model}"
ABOUT = "A mixture of LLMs behind one door, by OpenAI's protocol. Our own options travel in the object `counterpoint` of the body."


def document(routes: Iterable[BaseRoute], *, keys: bool = True) -> dict[str, Any]:
    """Build the document.

    Args:
        routes: The endpoint's routes.
        keys: Whether keys are wanted.

    Example:
        >>> from serving.routes.health import router
        >>> made = document(router.routes)
        >>> made["openapi"], list(made["paths"]["/healthz"]), made["paths"]["/healthz"]["get"]["summary"]
        ('3.1.0', ['get'], 'Tell that the endpoint is up.')
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if isinstance(route, APIRoute):
            for method in sorted(route.methods):
                paths.setdefault(route.path, {})[method.lower()] = _operation(route)
    schemas = _schemas({*_types(paths), *_types(errors())})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Counterpoint",
            "version": version("counterpoint-server"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "security": [{"key": []}] if keys else [],
        "paths": _resolved(paths),
        "components": {
            "schemas": schemas,
            "responses": _resolved(errors()),
            "headers": {name: dict(header) for name, header in HEADERS.items()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "A key that `counterpoint keys create` made."}},
        },
    }


def _operation(route: APIRoute) -> dict[str, Any]:
    """What is told of a path and method: its docstring, the ids in its path, and what its module says."""
    extra = route.openapi_extra or {"responses": {"default": {"description": "Not described."}}}
    ids = [{"name": name, **ID} for name in re.findall(r"\{(\w+)\}", route.path)]
    head = {"operationId": route.name, "summary": (getdoc(route.endpoint) or "").partition("\n")[0]}
    return {**head, **extra, "parameters": [*ids, *extra.get("parameters", [])]}


def _types(part: Any) -> Iterator[type]:
    """All Python types that stand in a part of the document."""
    if isinstance(part, type):
        yield part
    elif isinstance(part, Mapping | list):
        for each in part.values() if isinstance(part, Mapping) else part:
            yield from _types(each)


def _resolved(part: Any) -> Any:
    """A part of the document, references in place of types and of headers."""
    if isinstance(part, type):
        return {"$ref": PLACE.format(model=part.__name__)}
    if isinstance(part, Mapping):
        made = {name: _resolved(each) for name, each in part.items()}
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in part.get("headers", ())}
        return made | {"headers": headers} if headers else made
    return [_resolved(each) for each in part] if isinstance(part, list) else part


def _schemas(types: set[type]) -> dict[str, Any]:
    """The schemas of types and of all that they hold, by name: what is read as it may come, what is answered as it goes out."""
    inputs: list[tuple[Any, JsonSchemaMode, TypeAdapter[Any]]] = []
    for each in sorted(types, key=lambda one: one.__name__):
        mode: JsonSchemaMode = "validation" if hasattr(each, "model_validate") else "serialization"
        inputs.append((each, mode, TypeAdapter(each)))
    _, made = TypeAdapter.json_schemas(inputs, ref_template=PLACE, schema_generator=_Generator)
    return {name: {"title": name, **schema} for name, schema in sorted(made.get("$defs", {}).items())}


class _Generator(GenerateJsonSchema):
    """Schemas of models as they are read from the wire: a field that may be left out may be null too."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        if issubclass(schema["cls"], Wire):
            required, fields = made.get("required", []), made["properties"]
            made["properties"] = {name: part if name in required else _or_null(part) for name, part in fields.items()}
            made["properties"] |= {name: {"type": "null"} for name in sorted(NULLABLE - fields.keys())}
        return made


def _or_null(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("default", ...) is None or {"type": "null"} in part.get("anyOf", []):
        return part
    about: dict[str, Any] = {name: part[name] for name in ("default", "title", "description") if name in part}
    return {"anyOf": [{name: value for name, value in part.items() if name not in about}, {"type": "null"}], **about}
