"""Every registered encoder, with a tiny model where it needs one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harkback.encoders import Encoder, open_encoder
from harkback.errors import HarkbackError
from harkback.registry import ENCODERS
from tiny_models import sam_audio_folder, tiny_pe_av

#: An encoder that needs a model has a row here: what writes a tiny one into a folder.
TINY: dict[str, Callable[[Path], Path]] = {"sam-audio": sam_audio_folder, "pe-av": tiny_pe_av}

Maker = Callable[[], Encoder]


@pytest.fixture(params=ENCODERS.names(), scope="module")
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    name = request.param
    try:
        model = TINY[name](tmp_path_factory.mktemp(name)) if hasattr(ENCODERS.load(name), "from_pretrained") else None
        open_encoder(name, model)
    except (HarkbackError, ImportError) as error:
        pytest.skip(f"NOT CHECKED: encoder {name} cannot be made here: {error}")
    return lambda: open_encoder(name, model)


@pytest.fixture(scope="module")
def encoder(make: Maker) -> Encoder:
    return make()
