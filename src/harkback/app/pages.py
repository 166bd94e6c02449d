"""Pages and styles that the server makes itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from harkback import figures
from harkback.templating import template


@cache
def style() -> str:
    """The style sheet of our pages."""
    return template("base.css").render(steps=figures.steps())


def reference(openapi: Mapping[str, Any]) -> str:
    """The page on the HTTP interface. openapi: its description."""
    return template("api.html").render(api=openapi, schemas=openapi["components"]["schemas"])
