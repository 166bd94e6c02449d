"""What a lesson's own process does, and what became of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harkback.app.words import Cost, Outcome, Strangers
from harkback.confined import Say
from harkback.encoders import Encoder
from harkback.teaching import MAX_DROP, teach, too_dear


def learn(
    say: Say, model: Path, clips: Path, store: Path, encoder: Encoder, force: bool, dry_run: bool, pictures: bool
) -> None:
    taught = teach(model, clips, store=store, encoder=encoder, force=force, dry_run=dry_run, pictures=pictures)
    skips: Sequence[tuple[str, str]] = [(skip.id, skip.reason) for skip in taught.skips]
    facts: dict[str, Any] = {"record": dict(taught.record), "counts": dict(taught.counts), "skips": skips}
    say((facts, {}))


def outcome_of(label: str, record: Mapping[str, Any], known: int) -> Outcome:
    """record: of the session, as in model.json; known: classes, in all."""
    cost, strangers = record.get("before"), record.get("strangers")
    return Outcome(
        clips=len(record["clips"][label]),
        new=label in record["new"],
        known=known,
        cost=Cost(**cost) if cost and cost["asked"] else None,
        too_dear=too_dear(record, MAX_DROP),
        strangers=Strangers(**strangers) if strangers else None,
        exam=record["exam"].get(label),
        version=None,
    )
