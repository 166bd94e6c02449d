"""The command of the page: app."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from harkback.commands.holding import MODEL, Weights
from harkback.commands.measuring import RUNS
from harkback.errors import HarkbackError

EXTRA = ("fastapi", "starlette", "pydantic", "uvicorn", "multipart", "python_multipart", "jinja2", "matplotlib", "PIL")


@dataclass(frozen=True, slots=True)
class AppCommand:
    """Open a page to ask a model, to teach it and to see what it knows; the same over HTTP.

    It is for this machine alone, unless --host says otherwise; then a token is demanded.
    """

    shown: Annotated[Positional[Path], MODEL]  #: folder of the model; one that is new is made by the first lesson
    host: str | None = None  #: address to listen on, like 0.0.0.0; none: this machine alone
    port: int | None = None  #: 1 to 65535; 0: any that is free; none: 8420, or the next that is free
    browser: bool = True  #: open a browser, if there is a screen
    runs: Path = RUNS  #: folder of benches, whose reports can be opened
    pictures: bool = True  #: keep three small pictures of each class beside the model, for people to look at
    upload_mb: int = 512  #: size of a file that may be sent, in megabytes; the files of a lesson: four times that
    upload_minutes: float = 60.0  #: length of a clip that may be sent
    weights: Annotated[Weights, arg(name="")] = field(default_factory=Weights)

    def run(self) -> None:
        try:
            from harkback.app.held import Allowed
            from harkback.app.room import Serving
            from harkback.app.serving import serve
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in EXTRA:
                raise
            what = f"a page cannot be served without {package}"
            raise HarkbackError(what, mend='pip install "harkback[app]"') from error
        if self.port is not None and not 0 <= self.port <= 65535:
            raise HarkbackError(f"{self.port} is no port", where="--port", mend="give 1 to 65535, or 0 for any")
        for flag, number in (("--upload-mb", self.upload_mb), ("--upload-minutes", self.upload_minutes)):
            if not number > 0:
                raise HarkbackError(f"{number:g} lets nothing through", where=flag, mend="give more than 0")
        weights = self.weights
        serving = Serving(
            self.shown,
            self.runs,
            pictures=self.pictures,
            allowed=Allowed(bytes=self.upload_mb << 20, seconds=60 * self.upload_minutes),
            weights=weights.model,
            device=weights.device,
            dtype=weights.dtype,
        )
        serve(serving, self.host, self.port, browser=self.browser)
