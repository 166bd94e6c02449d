"""Requests made up from the description of the app's interface: whatever comes, the answer is a described one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from app_client import Server, served
from fakes import tone
from harkback.app import lessons
from harkback.model import Model
from harkback.teaching import Making, teach
from patience import until

schemathesis = pytest.importorskip("schemathesis")
checks = pytest.importorskip("schemathesis.checks")
openapi = pytest.importorskip("schemathesis.specs.openapi.checks")
pytestmark = pytest.mark.app

SEARCH = os.environ.get("HYPOTHESIS_PROFILE") == "search"  #: for what no run has tried yet
EXAMPLES = 500 if SEARCH else 25  #: of each operation
SAID = (
    checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
)


@pytest.fixture(scope="module")
def thrown_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model that may be taught, undone and forgotten as it comes, and still opens in the end."""
    root = tmp_path_factory.mktemp("fuzzed")
    for pitch, name in ((200, "low"), (1500, "high"), (600, "0")):
        for i in range(5):
            tone(root / "tones" / name / f"{i}.wav", pitch + 9 * i, seconds=0.2)
    model = root / "model"
    teach(model, root / "tones", classes=("low",), making=Making(learner="ncm", memory=20))
    teach(model, root / "tones", force=True)
    (root / "runs" / "bench").mkdir(parents=True)
    (root / "runs" / "bench" / "report.html").write_text("a report")
    patch = pytest.MonkeyPatch()
    patch.setattr(lessons, "WAITING", 10_000)  # Else a crowd of lessons would be told to come back, with a 503.
    with patch.context(), served(model, root / "temporary", runs=root / "runs") as server:
        yield server
        assert until(lambda: server.client.get("/health").json["waiting"] == 0)
        assert server.said == []
        known = {each["name"] for each in server.client.get("/model").json["classes"]}
        assert known == set(Model(model).classes) and known
        (said,) = server.client.predict(tone(root / "asked.wav", 205, seconds=0.2)).json["answers"]
        assert said["likeliest"] in known
    patch.undo()
    assert Model(model).facts["version"] >= 1


@pytest.fixture(scope="module")
def description(thrown_at: Server) -> Any:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{thrown_at.client.port}/openapi.json")


OPERATIONS = (
    "GET /knows", "GET /examples/{key}", "GET /benches", "GET /benches/{name}", "GET /health", "GET /model",
    "POST /predict", "POST /teach", "GET /lessons/{lesson}", "POST /lessons/{lesson}/commit",
    "DELETE /lessons/{lesson}", "POST /undo", "POST /forget",
)  # fmt: skip


def test_all_operations_are_tried(description: Any) -> None:
    found = {f"{each.ok().method.upper()} {each.ok().path}" for each in description.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_answer_is_one_that_is_described(description: Any, operation: str, mode: str) -> None:
    method, path = operation.split(" ")
    kind = schemathesis.GenerationMode(mode)
    tried = 0

    @settings(
        max_examples=EXAMPLES,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
        derandomize=not SEARCH,
        deadline=None,
        database=None,
    )
    @given(case=description[path][method].as_strategy(generation_mode=kind))
    def ask(case: Any) -> None:
        nonlocal tried
        tried += 1
        case.call_and_validate(checks=list(SAID), timeout=120)

    try:
        ask()
    except Unsatisfiable:
        assert mode == "negative"  # There is nothing about it that could be wrong.
        return
    assert tried
