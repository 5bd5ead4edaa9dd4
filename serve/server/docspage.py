"""The OpenAPI document as a page of plain HTML: it needs no network, as FastAPI's own page would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 14px/1.5 ui-monospace, monospace; }
pre { overflow: auto; background: #8881; padding: .75rem; border-radius: .3rem; }
h2 { margin-top: 2.5rem; border-top: 1px solid #8884; padding-top: 1rem; }
summary { cursor: pointer; }
:root { color-scheme: light dark; }
"""


def docs_page(document: Mapping[str, Any]) -> str:
    """A page with every operation and every schema of an OpenAPI document."""
    title, version = escape(document["info"]["title"]), escape(document["info"]["version"])
    operations = "".join(
        _operation(path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    schemas = "".join(
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_pre(schema)}</details>'
        for name, schema in document.get("components", {}).get("schemas", {}).items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{title} {version}</h1><p>{escape(document['info'].get('description', ''))}</p>"
        f'<p>As JSON: <a href="openapi.json">openapi.json</a></p>{operations}<h2>Schemas</h2>{schemas}</body></html>'
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    sent = f"<p>Body: {_names(body)}</p>" if body else ""
    rows = "".join(
        f"<li><code>{escape(status)}</code> {escape(response.get('description', ''))}{_answered(response)}</li>"
        for status, response in sorted(operation["responses"].items())
    )
    about = escape(operation.get("description", "")).replace("\n\n", "</p><p>")
    return f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2><p>{about}</p>{sent}<ul>{rows}</ul>"


def _answered(response: Mapping[str, Any]) -> str:
    schema = response.get("content", {}).get("application/json", {}).get("schema")
    return f": {_names(schema)}" if schema else ""


def _names(schema: Mapping[str, Any]) -> str:
    """The names of the schemas that it refers to, as links."""
    options = [part.get("items", part) for part in schema.get("anyOf", [schema])]
    names = [str(option.get("$ref", "")).rpartition("/")[2] for option in options]
    return " or ".join(f'<a href="#{escape(name)}"><code>{escape(name)}</code></a>' for name in names if name)


def _pre(schema: object) -> str:
    return f"<pre>{escape(json.dumps(schema, indent=2, ensure_ascii=False))}</pre>"
