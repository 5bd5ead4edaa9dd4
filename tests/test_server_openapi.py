"""The OpenAPI document is true: what it allows is answered, what it forbids is refused, as it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings

from secondstage.serve.server.app import make_app
from secondstage.serve.server.reception import DEADLINE

from .serving import CountingModel, live, make_service

schemathesis = pytest.importorskip("schemathesis")

# No word breaks this model: hypothesis tries words that it finds in the code.
app = make_app(make_service(CountingModel(broken=""), prefix="/infinity", max_documents=50, keep=lambda judged: None))
schema = schemathesis.openapi.from_dict(app.openapi())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with live(app) as url:
        yield url


@pytest.mark.slow
@schema.parametrize()  # type: ignore[untyped-decorator]
@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=cast(Any, list(HealthCheck)))
def test_the_document_is_true(case: Any, url: str) -> None:
    # A deadline of a billionth of a second is as valid as it is missed: 504 is tested where the refusals are.
    case.headers.pop(DEADLINE, None)
    case.call_and_validate(base_url=url, timeout=60)
