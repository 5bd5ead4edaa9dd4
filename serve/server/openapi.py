"""The OpenAPI document: FastAPI's of the routes, and the bodies, which the routes read by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from secondstage.config import ServerConfig

from . import wire
from .reception import DEADLINE

BODIES: dict[str, tuple[Any, ...]] = {
    "/rerank": (wire.Rerank, wire.TeiRerank),
    "/v1/rerank": (wire.Rerank, wire.TeiRerank),
    "/v2/rerank": (wire.CohereRerank, wire.TeiRerank),
    "/score": (wire.ScoreTexts, wire.ScoreQueries),
    "/v1/score": (wire.ScoreTexts, wire.ScoreQueries),
    "/search": (wire.SearchBody,),
    "/judgements": (wire.JudgementBody,),
}
REFERENCE = "#/components/schemas/{model}"
HEADER = {
    "name": DEADLINE,
    "in": "header",
    "required": False,
    "description": "Milliseconds after which the request is given up (504); the server's own deadline stays.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}

# Of `/score`: one text in the schema, as it cannot say that two lists have the same length.
ONE_SIDED = ("text_1", "queries")
MOST_IN_SCHEMA = ("CohereRerank", "InfinityRerank")


def document(
    app: FastAPI, config: ServerConfig, *, keys: bool, most_results: int, fields: Sequence[str] = ()
) -> dict[str, Any]:
    """The OpenAPI document of this server, with its own limits in it, and the fields that its documents have."""
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    bodies = dict(BODIES)
    if config.prefix:
        bodies[f"{config.prefix}/rerank"] = (wire.InfinityRerank,)
    models = sorted({model for kinds in bodies.values() for model in kinds}, key=lambda model: str(model.__name__))
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=REFERENCE)
    definitions = schemas["$defs"]
    for definition in definitions.values():
        _limit(definition, config)
    asked = definitions["SearchBody"]["properties"]
    asked["top_n"]["maximum"] = asked["depth"]["anyOf"][0]["maximum"] = most_results
    where = asked["where"]["anyOf"]
    values = where[0].pop("additionalProperties")
    where[0] |= {"properties": dict.fromkeys(fields, values), "additionalProperties": False, "minProperties": 1}
    if not fields:
        del where[0]
    found.setdefault("components", {}).setdefault("schemas", {}).update(definitions)
    for path, kinds in bodies.items():
        references = [{"$ref": REFERENCE.format(model=kind.__name__)} for kind in kinds]
        schema = references[0] if len(references) == 1 else {"anyOf": references}
        operation = found["paths"][path]["post"]
        operation.setdefault("parameters", []).append(HEADER)
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        if keys:
            operation["security"] = [{"key": []}]
    if keys:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path in ("/info", "/metrics"):
            found["paths"][path]["get"]["security"] = [{"key": []}]
    return found


def _limit(definition: dict[str, Any], config: ServerConfig) -> None:
    """Write the limits of this server into the schema of a body.

    Of texts only where too many are an invalid body: where the API documents 413 for them, they are none.
    """
    refused = definition["title"] in MOST_IN_SCHEMA
    for name, field in definition.get("properties", {}).items():
        if name == "query":
            field["maxLength"] = config.max_query_characters
        for schema in (field, *field.get("anyOf", ())):
            if schema.get("type") == "array" and name != "rank_fields":
                if name in ONE_SIDED:
                    schema["maxItems"] = 1
                elif refused:
                    schema["maxItems"] = config.max_documents
