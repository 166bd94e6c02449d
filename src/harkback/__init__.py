"""Harkback: an audio-visual classifier that is taught new classes and does not forget the old ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harkback.encoders import Encoder
    from harkback.harness import Bench
    from harkback.model import Model
    from harkback.teaching import Taught

__version__ = "0.1.0"
__all__ = ["Model", "bench", "list_datasets", "list_encoders", "list_learners", "load", "teach"]


def __getattr__(name: str) -> Any:
    if name == "Model":  # Not imported before it is asked for: it brings torch.
        from harkback.model import Model

        return Model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(path: str | Path) -> Model:
    """A model's folder, opened: ``load("rover").predict("clip.mp4")``. `HarkbackError` if it is none, or damaged."""
    from harkback.model import Model

    return Model(path)


def teach(path: str | Path, clips: str | Path, **options: Any) -> Taught:
    """Teach the model at ``path`` a folder of clips, a folder a class; makes the model if there is none.

    options: of `harkback.teaching.teach`, such as ``dry_run=True`` or ``making=Making(learner="ridge", memory=60)``.
    """
    from harkback.teaching import teach as run

    return run(path, clips, **options)


def list_learners() -> list[str]:
    """Names of the learners, for ``bench(learners=...)``."""
    from harkback.registry import LEARNERS

    return LEARNERS.names()


def list_encoders() -> list[str]:
    """Names of the encoders."""
    from harkback.registry import ENCODERS

    return ENCODERS.names()


def list_datasets() -> list[str]:
    """Names of the datasets."""
    from harkback.registry import DATASETS

    return DATASETS.names()


def bench(
    source: str,
    out: str | Path,
    *,
    encoder: str | Encoder | None = None,
    model: str | Path | None = None,
    store: str | Path | None = None,
    read_pickle: bool = False,
    workers: int | None = 0,
    on: str | None = None,
    **settings: Any,
) -> Bench:
    """Measure learners on a folder of clips or a dataset; what ``out`` already holds of it is not redone.

    source: a folder, or ``name:folder`` of a dataset; read_pickle: its pickled files are trusted. encoder: a name, with
    the folder or hub id of its ``model`` where it needs one; or an encoder; None: "signal", or nothing for a dataset
    that comes as features. workers: processes that learn side by side; None: one a core; 0: this process. on: "ray" or
    "ray://HOST:PORT": the machines of a Ray cluster do the work. settings: fields of `harkback.harness.BenchSettings`,
    such as ``learners=("l3", "ridge")`` or ``memory=60``. Errors: `harkback.errors.HarkbackError`. Start it under
    ``if __name__ == "__main__":`` in a script, as it uses worker processes.
    """
    from harkback.cluster import joined
    from harkback.datasets import Encoded, open_dataset
    from harkback.encoders import Opening
    from harkback.errors import HarkbackError
    from harkback.harness import BenchSettings
    from harkback.harness import bench as run

    dataset = open_dataset(source, read_pickle=read_pickle)
    if isinstance(dataset, Encoded):
        if encoder is not None or model is not None:
            raise HarkbackError("comes as features", where=dataset.name, mend="give neither encoder nor model")
    elif encoder is None:
        encoder = "signal"
    root = None if store is None else Path(store)
    with joined(on) as machines:
        if isinstance(encoder, str):
            encoder = Opening(encoder, model).open(machines)
        return run(dataset, encoder, BenchSettings(**settings), Path(out), root, workers=workers, on=machines)
