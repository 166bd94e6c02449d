"""The protocol of S3, spoken to a server on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
import torch

WHY = "S3 IS NOT TESTED: no s3fs or no moto here; pip install s3fs 'moto[server]'"
pytest.importorskip("s3fs", reason=WHY)
moto_server = pytest.importorskip("moto.server", reason=WHY)

from fakes import Fake  # noqa: E402
from harkback.datasets import open_dataset  # noqa: E402
from harkback.datasets.folder import Folder  # noqa: E402
from harkback.errors import HarkbackError  # noqa: E402
from harkback.extract import extract  # noqa: E402
from harkback.places import Remote  # noqa: E402
from stored import put, sounds, tars  # noqa: E402


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A bucket of its own for each test. Where it is and who may read it, s3fs has from the environment alone."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "topsecret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    files = fsspec.filesystem("s3")
    name = uuid4().hex
    files.mkdir(name)
    yield f"s3://{name}/clips"
    files.clear_instance_cache()


@pytest.mark.parametrize("layout", ["files", "tars"])
def test_clips_in_a_bucket_give_the_features_of_the_files(tmp_path: Path, bucket: str, layout: str) -> None:
    clips = sounds(tmp_path / "plain")
    plain = [clip for some in Folder(tmp_path / "plain").splits.values() for clip in some]
    wanted = extract(plain, Fake(), tmp_path / "store-plain", workers=0)
    dataset = open_dataset(put(bucket, clips if layout == "files" else tars(clips)))
    there = [clip for some in dataset.splits.values() for clip in some]
    # In this process: the fork server may have been started by another test, without these keys.
    found = extract(there, Fake(), tmp_path / "store", workers=0)
    assert found.skips == () and found.encoded == len(clips) and set(found.keys) == set(wanted.keys)
    order = [wanted.keys.index(key) for key in found.keys]
    a, b = found.features[torch.arange(len(order))], wanted.features[torch.tensor(order)]
    assert torch.equal(a.audio, b.audio) and torch.equal(a.visual, b.visual)
    assert [clip.label for clip in found.clips] == [wanted.clips[i].label for i in order]
    # Opened anew it is what it was, so that nothing is read again; what was overwritten is.
    assert open_dataset(bucket).splits == dataset.splits
    written = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert b"s3://" in written and b"topsecret" not in written


def test_what_was_overwritten_is_another_version(bucket: str) -> None:
    put(bucket, {"dog/a.mp4": b"one", "dog/b.mp4": b"one"})
    before = {clip.id: clip.path for some in open_dataset(bucket).splits.values() for clip in some}
    somebody_else = fsspec.filesystem("s3", skip_instance_cache=True)
    somebody_else.pipe_file(f"{bucket}/dog/a.mp4", b"two")
    after = {clip.id: clip.path for some in open_dataset(bucket).splits.values() for clip in some}
    assert before["dog/b.mp4"] == after["dog/b.mp4"]
    assert before["dog/a.mp4"].changed != after["dog/a.mp4"].changed  # type: ignore[union-attr]


def test_what_is_not_there(bucket: str) -> None:
    with pytest.raises(FileNotFoundError, match="No such file"):
        Remote(f"{bucket}/none.mp4", 1, 1).read()
    with pytest.raises(HarkbackError, match=r"s3://.*(no clips|cannot be listed)"):
        open_dataset("s3://no-such-bucket-anywhere/x")


def test_who_has_no_key_is_told_so_in_one_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(HarkbackError, match=r"cannot be listed: NoCredentialsError.*; check the address") as caught:
        open_dataset(bucket)
    assert "\n" not in str(caught.value)
