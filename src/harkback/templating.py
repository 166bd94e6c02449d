"""The pages' templates, with escaping on (extra "report")."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


def template(name: str) -> Template:
    """One of ``templates/``; a name that it uses and is not given is an error."""
    environment = Environment(
        loader=PackageLoader("harkback", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
