"""What a hostile client, page or file does to the app: it is told so in a line, and nothing else happens."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import psutil
import pytest

import misdeeds
from app_client import Client, Server, everything, form, parts, served, workers
from fakes import tone
from films import film, gray
from harkback import decoding
from harkback.app import asking, guard, lessons, programs, reading, room
from harkback.app.held import Allowed
from harkback.app.programs import LINES
from harkback.confined import Limits
from harkback.model import Model
from harkback.teaching import Making, teach
from patience import until

MIB = 1 << 20
TOKEN = "a-token-of-this-test"
#: Of an upload that is cut off in the middle, Starlette leaves the last file to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in.*SpooledTemporaryFile")
SMALL = Allowed(bytes=2 * MIB, seconds=30.0, files=3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two pitches, that nobody changes."""
    root = tmp_path_factory.mktemp("victim")
    for pitch, name in ((200, "low"), (1500, "high")):
        for i in range(5):
            tone(root / "tones" / name / f"{i}.wav", pitch + 9 * i, seconds=0.5)
    teach(root / "s3cret place" / "victim", root / "tones", making=Making(learner="ncm", memory=20))
    return root / "s3cret place" / "victim"


@pytest.fixture(scope="module")
def victim(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It is served, and must be unharmed in the end: the same bytes, no process, no file, no complaint."""
    before = everything(base)
    with served(base, tmp_path_factory.mktemp("s3cret temporary"), allowed=SMALL) as server:
        yield server
        assert server.client.get("/health").json["version"] == 1
        assert server.swept(), server.left()
        gc.collect()
        assert complaints(server) == []
        check_no_places(server.client, base, server.temporary)
    assert everything(base) == before


@pytest.fixture(scope="module")
def locked(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same behind a token."""
    with served(base, tmp_path_factory.mktemp("locked"), token=TOKEN, port=8420, hosts=frozenset()) as server:
        yield server
        assert complaints(server) == []


#: All servers of a process have one log; a client that was stuck is told of there.
OTHERS = (
    "Invalid HTTP request",
    "Unsupported upgrade request",
    "No supported WebSocket library",
    "returned without completing response",
)


def complaints(server: Server) -> list[str]:
    """What it said about itself, not about requests that are none."""
    return [line for line in server.said if not any(w in line for w in OTHERS)]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return tone(tmp_path / "good.wav", 205, seconds=0.5)


def check_no_places(client: Client, *places: Path) -> None:
    """No refusal tells where anything lies on the server, or how it is built."""
    import harkback

    names = {*map(str, places), *(place.name for place in places if "s3cret" in place.name), "s3cret"}
    names |= {str(Path(harkback.__file__).parent), "site-packages", "harkback-app-", "Traceback", ".py"}
    for reply in client.refused:
        assert not any(name.encode() in reply.body for name in names), reply


def alive(server: Server, file: Path) -> None:
    """It answers, and rightly."""
    (said,) = server.client.predict(file).json["answers"]
    assert said["likeliest"] == "low"


# ---- paths ----------------------------------------------------------------------------------------------------------

OUTSIDE = ("etc/hostname", "s3cret place/victim/model.json", "server.py")
CLIMBS = (
    "../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "..\\", "%252e%252e%252f", "..%252f", "....//", "%c0%ae%c0%ae/",
    "/", "%2f", "//", "..;/", "%00/", "./../", "..%00/",
)  # fmt: skip


@pytest.mark.parametrize("room", ["static", "examples", "benches", "lessons"])
def test_no_path_leads_out_of_a_room(victim: Server, base: Path, room: str) -> None:
    for climb in CLIMBS:
        for depth in (1, 6):
            for target in OUTSIDE:
                path = f"/{room}/{climb * depth}{target}".replace(" ", "%20").replace("\\", "%5C")
                for method in ("GET", "DELETE") if room == "lessons" else ("GET",):
                    said = victim.client.raw(
                        f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
                    )
                    status = int(said.split(b" ", 2)[1])
                    assert status in (307, 400, 404, 405), (path, said[:200])
    for name in ("..", ".", "%2e%2e", "~", "con", "a" * 5000, "%00", "%0d%0aset-cookie:%20a=b"):
        said = victim.client.raw(
            f"GET /{room}/{name} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
        )
        assert int(said.split(b" ", 2)[1]) in (307, 400, 404, 405), said[:200]
        assert b"\r\nset-cookie" not in said.lower()


def test_the_pictures_and_reports_of_others_cannot_be_had_by_links_of_names(
    base: Path, tmp_path: Path, good: Path
) -> None:
    model = Path(shutil.copytree(base, tmp_path / "victim"))
    (tmp_path / "outside.jpg").write_bytes(b"secret")
    (model / ".examples").mkdir(exist_ok=True)
    (model / ".examples" / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    runs = tmp_path / "runs"
    (runs / "bench").mkdir(parents=True)
    (runs / "bench" / "report.html").write_text("a report")
    (tmp_path / "report.html").write_text("secret")
    with served(model, tmp_path / "temporary", runs=runs) as server:
        for path in ("/examples/link", "/examples/..%2foutside", "/benches/.", "/benches/..", "/benches/%2e%2e",
                     "/benches/bench%2f..%2f..", "/benches/bench/../..", "/benches/bench%00"):  # fmt: skip
            reply = server.client.get(path)
            assert reply.status == 404 and b"secret" not in reply.body, path
        assert server.client.get("/benches/bench").body == b"a report"


HOSTILE = (
    "../../../etc/passwd", "..\\..\\boot.ini", "/etc/passwd", "C:\\CON", "CON", "aux.wav", "a\0b.wav", "-rf.wav",
    "$(id).wav", "`id`.wav", "<img src=x onerror=alert(1)>.wav", "\u202egnp.exe.wav", "x" * 3000 + ".wav", ".wav", "..",
    ".", " ", "", "a.wav\r\nx: y", "%2e%2e%2f%2e%2e%2fx.wav", "clip.csv", "clips.csv", "features", "%d.wav",
    "concat:a|b.wav", "file:///etc/passwd.wav", "\udcff\udcfe.wav", "CLIP.WAV", "a.verylongsuffix", "a.\u00e9\u00e8",
    "model.json",
)  # fmt: skip


def test_no_name_of_a_file_becomes_a_path(victim: Server, good: Path, tmp_path: Path) -> None:
    before = {path for path in tmp_path.parent.rglob("*") if "temporary" not in str(path)}
    content = good.read_bytes()
    for name in HOSTILE:
        said = victim.client.predict(content, name)
        assert said.status in (200, 400, 422), (name, said)
        if said.status == 200:
            shown = said.json["file"]
            assert shown and len(shown) <= 200 * 6 and "/" not in shown and "\\.." not in shown
            assert all(c.isprintable() or c in "\u200c\u200d" for c in shown), shown
            assert said.json["answers"][0]["likeliest"] == "low"
        else:
            assert said.error
    assert victim.swept()
    assert {path for path in tmp_path.parent.rglob("*") if "temporary" not in str(path)} == before


def test_no_label_breaks_out(victim: Server, base: Path, good: Path) -> None:
    content = good.read_bytes()
    refused = (
        "..", ".", " ", "a/b", "../../x", "a\\b", "a\0b", "a\nb", "a\r\nb", "unknown", "Unknown", " UNKNOWN ",
        "x" * 10_000, "x" * 121, "\u2028", "\x1b[31mred", "LOW", "\ud800", "ﬀ" * 100,
    )  # fmt: skip
    for label in refused:
        body, kind = form([("label", None, label.encode("utf-8", "surrogatepass")), ("files", "a.wav", content)])
        said = victim.client.ask("POST", "/teach", body, {"content-type": kind})
        assert said.status in (400, 422) and said.error, (label, said)
        assert "\0" not in said.error and "\x1b" not in said.error
    empty = victim.client.send("/teach", [("label", None, b""), ("files", "a.wav", content)])
    assert empty.status == 422
    # Names that are odd and no more: as text they are shown, and as text they stay.
    for label in ("CON", "<b>bold'; DROP TABLE", "\u202e=1+1 🐱‍👤"):
        lesson = victim.client.taught(label, [good], dry_run="true")
        assert lesson["state"] == "asking" and lesson["label"] == label, lesson
        assert victim.client.ask("DELETE", f"/lessons/{lesson['id']}").status == 200
    assert Model(base).classes == ("high", "low")


@pytest.mark.slow
def test_names_of_classes_are_text_in_every_page(base: Path, tmp_path: Path, good: Path) -> None:
    model, nasty = Path(shutil.copytree(base, tmp_path / "victim")), '<script>alert("x")</script>'.replace("/", "")
    with served(model, tmp_path / "temporary") as server:
        assert server.client.taught(nasty, [good], force="true")["state"] == "done"
        for path in ("/knows", "/model"):
            page = server.client.get(path)
            assert page.headers["x-content-type-options"] == "nosniff"
            assert path == "/model" or (b"<script" not in page.body and b"&lt;script&gt;" in page.body)
            assert path == "/knows" or page.headers["content-type"] == "application/json"


# ---- sizes ----------------------------------------------------------------------------------------------------------


def test_a_request_that_says_it_is_too_large_is_refused_unread(victim: Server) -> None:
    for path, most in (("/predict", SMALL.bytes), ("/teach", 4 * SMALL.bytes), ("/undo", guard.SMALL - MIB)):
        head = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {most + MIB + 1}\r\nconnection: close\r\n\r\n"
        )
        assert victim.client.raw(head.encode()).startswith(b"HTTP/1.1 413 "), path
    for length in ("-1", "1e9", "9" * 30, "9" * 5000, "0x10", "1,2", "+5", " "):
        said = victim.client.raw(
            f"POST /undo HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n".encode(), wait=5
        )
        assert said[9:12] in (b"400", b"413"), (length, said[:100])


def test_a_request_that_grows_too_large_is_refused_however_much_is_still_to_come(victim: Server) -> None:
    this = psutil.Process()
    before = this.memory_info().rss

    def chunks() -> Iterator[bytes]:
        yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(100):
            yield bytes(MIB)

    said = victim.client.ask("POST", "/predict", chunks(), {"content-type": "multipart/form-data; boundary=b"})
    assert said.status == 413 and said.error == "the request is too large; send less at once"
    assert this.memory_info().rss < before + 30 * MIB  # The rest was read so that the answer arrives, and dropped.
    assert victim.swept()


def test_one_file_of_several_may_be_too_large(victim: Server, base: Path, good: Path) -> None:
    content = good.read_bytes()
    lesson = [("label", None, b"hum"), ("files", "a.wav", content), ("files", "big.wav", bytes(SMALL.bytes + 1))]
    said = victim.client.send("/teach", lesson)
    assert said.status == 413 and said.error == "big.wav: is larger than 2.1 MB; send a part of it"
    many = [("label", None, b"hum"), *[("files", f"{k}.wav", content) for k in range(SMALL.files + 1)]]
    assert victim.client.send("/teach", many).error == "4 files are too many; send 3 at most"
    floods = [("label", None, b"hum"), *[("files", "", b"")] * 2000]
    assert victim.client.send("/teach", floods).status in (400, 413, 422)
    fields = [*[(f"f{k}", None, b"x") for k in range(2000)], *parts(content)]
    assert victim.client.send("/predict", fields).status == 400
    wide = [("label", None, b"x" * (MIB + 10)), ("files", "a.wav", content)]
    assert victim.client.send("/teach", wide).status == 400
    assert victim.swept()


@pytest.mark.slow
def test_a_file_may_be_exactly_as_large_as_is_allowed(victim: Server, good: Path) -> None:
    content = good.read_bytes()
    padded = content + bytes(SMALL.bytes - len(content))
    assert victim.client.predict(padded).status in (200, 422)  # Whatever FFmpeg makes of the zeros: it was taken.
    assert victim.client.predict(padded + b"\0").status == 413


# ---- bombs ----------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, lines: int, depth: int = 8) -> bytes:
    """A grey picture of which so many lines are there."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 + width * depth // 8)) for _ in range(lines)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    return (
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
        + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"
    )  # fmt: skip


def wav(rate: int, size: int, content: int, channels: int = 1, bits: int = 8) -> bytes:
    """A header that promises ``size`` bytes, and ``content`` bytes."""
    block = channels * bits // 8 & 0xFFFF
    about = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block, bits)
    head = b"RIFF" + struct.pack("<I", min(size + 36, 0xFFFFFFFF)) + b"WAVEfmt " + struct.pack("<I", 16) + about
    return head + b"data" + struct.pack("<I", min(size, 0xFFFFFFFF)) + bytes(content)


def ebml(name: str, content: bytes) -> bytes:
    """An element of Matroska."""
    return bytes.fromhex(name) + struct.pack(">Q", 0x0100000000000000 | len(content)) + content


def mkv(width: int, height: int, duration: float) -> bytes:
    def number(name: str, value: int) -> bytes:
        return ebml(name, value.to_bytes(8, "big"))

    video = ebml("e0", number("b0", width) + number("ba", height))
    track = ebml("ae", number("d7", 1) + number("73c5", 1) + number("83", 1) + ebml("86", b"V_MPEG4/ISO/ASP") + video)
    info = ebml("1549a966", number("2ad7b1", 1_000_000) + ebml("4489", struct.pack(">d", duration)))
    block = ebml("a3", b"\x81\x00\x00\x80" + bytes(64))
    cluster = ebml("1f43b675", number("e7", 0) + block)
    return ebml("1a45dfa3", ebml("4282", b"matroska")) + ebml("18538067", info + ebml("1654ae6b", track) + cluster)


def slow_film(path: Path, frames: int) -> bytes:
    return film(path, [gray(k % 256, (16, 16)) for k in range(frames)], [1000 * k for k in range(frames)]).read_bytes()


BOMBS = {
    "enormous.png": png(100_000, 100_000, 1),
    "two billion.png": png(2**31 - 1, 2**31 - 1, 1),
    "zlib heavy.png": png(2500, 2500, 2500),
    "zlib heavy, too large.png": png(30_000, 30_000, 3000),
    "enormous.gif": gif(65535, 65535),
    "hours.wav": wav(8000, 0x70000000, 1000),
    "too many hours.wav": wav(8000, 0x7FFFFFFF, 1000),
    "days at 1 Hz.wav": wav(1, 200_000, 200_000),
    "unknown size.wav": wav(8000, 0xFFFFFFFF, 1000),
    "rate 0.wav": wav(0, 1000, 1000),
    "rate of billions.wav": wav(0xFFFFFFFF, 1000, 1000),
    "65535 channels.wav": wav(8000, 65535 * 2, 65535 * 2, channels=65535),
    "absurd.mkv": mkv(2**31 - 1, 2**31 - 1, 1e300),
    "negative.mkv": mkv(16, 16, -1e12),
    "not a number.mkv": mkv(16, 16, float("nan")),
    "large.mkv": mkv(8000, 8000, 1e12),
}


def test_bombs_are_defused(victim: Server, good: Path) -> None:
    this = psutil.Process()
    victim.client.predict(good)
    before = this.memory_info().rss
    for name, content in BOMBS.items():
        said = victim.client.predict(content, name)
        assert said.status in (200, 422), (name, said)
        if said.status == 422:
            assert said.error.startswith(f"{name}: ") or "memory" in said.error, said.error
    refused = {reply.error.partition(": ")[0] for reply in victim.client.refused if reply.status == 422}
    assert {"enormous.png", "two billion.png", "enormous.gif", "hours.wav", "days at 1 Hz.wav", "absurd.mkv"} <= refused
    assert this.memory_info().rss < before + 60 * MIB  # What a picture of 64 million pixels takes, it takes elsewhere.
    assert victim.swept()
    alive(victim, good)


@pytest.mark.slow
def test_as_many_pixels_as_are_let_through_are_decoded_elsewhere(victim: Server, good: Path) -> None:
    this, content = psutil.Process(), png(8000, 8000, 8000)
    assert len(content) < 100_000
    victim.client.predict(good)
    before = this.memory_info().rss
    said = victim.client.predict(content, "heavy.png")
    assert said.status == 200 or (said.status == 422 and "memory" in said.error)
    assert this.memory_info().rss < before + 60 * MIB  # The picture alone has 192 MB.
    assert victim.swept()


def test_a_film_of_thousands_of_seconds_in_few_bytes(victim: Server, tmp_path: Path) -> None:
    content = slow_film(tmp_path / "slow.mp4", 3000)
    assert len(content) < SMALL.bytes
    said = victim.client.predict(content, "slow.mp4")
    assert said.status == 422 and said.error == "slow.mp4: lasts 2999 s, and 30 s are the most; take a part of it"
    lesson = victim.client.taught("slow", [tmp_path / "slow.mp4"])
    assert lesson["state"] == "failed" and "lasts 2999 s, and 30 s are the most" in lesson["error"]


@pytest.mark.slow
def test_windows_without_number_are_refused(victim: Server, tmp_path: Path, monkeypatch: Any) -> None:
    content = slow_film(tmp_path / "slow.mp4", 10)
    assert len(victim.client.predict(content, window=0.5).json["answers"]) == 18
    for window in (0.0999, 1e-300, 5e-324):
        said = victim.client.predict(content, window=window)
        assert said.status == 422 and "windows cannot last" in said.error
    assert 10 * Allowed().seconds > reading.MOST  # So there are files of which that would be too many.
    long = wav(100, 300_000, 300_000)
    with served(Path(victim.model), tmp_path / "temporary") as other:
        said = other.client.predict(long, window=0.1)
        assert said.status == 422 and said.error == "would be 30000 windows, and 4000 are the most; take longer windows"


@pytest.mark.slow
def test_bombs_in_a_lesson_cost_that_file_alone(base: Path, tmp_path: Path, good: Path) -> None:
    model, folder = Path(shutil.copytree(base, tmp_path / "victim")), tmp_path / "bombs"
    folder.mkdir()
    for name, content in BOMBS.items():
        (folder / name).write_bytes(content)
    with served(model, tmp_path / "temporary") as server:
        lesson = server.client.taught("boom", [good, *sorted(folder.iterdir())], force="true")
        assert lesson["state"] == "done", lesson
        reasons = {clip["name"]: clip["reason"] for clip in lesson["clips"]}
        assert reasons["good.wav"] is None
        assert all(reasons[name] for name in ("enormous.png", "hours.wav", "absurd.mkv"))
        assert not any("defect" in str(reason) or "report it" in str(reason) for reason in reasons.values()), reasons
        assert server.swept() and server.said == []


# ---- files that point elsewhere -------------------------------------------------------------------------------------


@contextmanager
def eavesdropping() -> Iterator[tuple[str, int, list[bytes]]]:
    """An address to connect to, a port for datagrams, and what came there."""
    heard: list[bytes] = []
    over = threading.Event()

    def listen(ear: socket.socket) -> None:
        while not over.is_set():
            try:
                if ear.type == socket.SOCK_STREAM:
                    ear.accept()[0].close()
                    heard.append(b"a connection")
                else:
                    heard.append(ear.recv(1 << 16))
            except TimeoutError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        threads = [threading.Thread(target=listen, args=(ear,), daemon=True) for ear in (tcp, udp)]
        for ear, thread in zip((tcp, udp), threads, strict=True):
            ear.settimeout(0.1)
            thread.start()
        try:
            yield f"http://127.0.0.1:{tcp.getsockname()[1]}/a.ts", udp.getsockname()[1], heard
        finally:
            over.set()
            for thread in threads:
                thread.join(10)


def playlists(place: str) -> dict[str, str]:
    part = f'<Representation id="1" mimeType="video/mp4"><BaseURL>{place}</BaseURL></Representation>'
    period = f"<Period><AdaptationSet>{part}</AdaptationSet></Period>"
    mpd = f'<MPD type="static" mediaPresentationDuration="PT1S">{period}</MPD>'
    begin = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n"
    return {
        "a.m3u8": f"{begin}#EXTINF:1,\n{place}\n#EXT-X-ENDLIST\n",
        "key.m3u8": f'{begin}#EXT-X-KEY:METHOD=AES-128,URI="{place}"\n#EXTINF:1,\nx.ts\n#EXT-X-ENDLIST\n',
        "master.m3u8": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{place}\n",
        "a.ffconcat": f"ffconcat version 1.0\nfile '{place}'\n",
        "a.mpd": f'<?xml version="1.0"?>{mpd}',
        "a.asx": f'<asx version="3.0"><entry><ref href="{place}"/></entry></asx>',
        "a.asf": f"[reference]\nRef1={place}\n",
        "a.svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{place}"/></svg>',
        "a.txt": place,
    }


def test_a_playlist_opens_neither_files_nor_hosts(victim: Server, tmp_path: Path) -> None:
    film = tone(tmp_path / "film.wav", 1500, seconds=0.5)
    with eavesdropping() as (web, port, heard):
        places = [
            f"file://{film}",
            str(film),
            "file:///etc/hostname",
            web,
            f"concat:{film}|{film}",
            f"subfile,,:{film}",
        ]
        asked = [(name, text) for place in places for name, text in playlists(place).items()]
        about = f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n"
        for name, text in [*asked, ("a.sdp", about)]:
            said = victim.client.predict(text.encode(), name)
            assert said.status == 422, (name, text, said)
    assert heard == []
    assert victim.swept()


def test_an_ear_hears_what_is_opened_plainly(tmp_path: Path) -> None:
    """So that the silence above means something."""
    with eavesdropping() as (web, port, heard):
        (tmp_path / "a.m3u8").write_text(playlists(web)["a.m3u8"])
        options = {"protocol_whitelist": "file,http,tcp", "allowed_extensions": "ALL", "extension_picky": "0"}
        with suppress(av.FFmpegError, OSError, ValueError):
            av.open(str(tmp_path / "a.m3u8"), options=options, timeout=5).close()
        assert until(lambda: heard, 10)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
            mouth.sendto(b"x", ("127.0.0.1", port))
        assert until(lambda: len(heard) >= 2)


# ---- requests that are not what they say ----------------------------------------------------------------------------


def test_bodies_of_another_kind_are_refused_in_words(victim: Server, good: Path) -> None:
    content = good.read_bytes()
    body, kind = form(parts(content))
    posts: list[tuple[str, bytes, str | None]] = [
        ("/predict", b'{"file": "x"}', "application/json"),
        ("/predict", body, "multipart/form-data"),
        ("/predict", body, "multipart/form-data; boundary="),
        ("/predict", body, f"multipart/form-data; boundary={'b' * 5000}"),
        ("/predict", body, "multipart/form-data; boundary=another"),
        ("/predict", body, "application/x-www-form-urlencoded"),
        ("/predict", body, None),
        ("/predict", body, "text/plain"),
        ("/predict", body[: len(body) // 2], kind),
        ("/predict", b"", kind),
        ("/predict", body.replace(b"filename", b"nofilename"), kind),
        ("/predict", body.replace(b'; filename="clip.mp4"', b""), kind),
        ("/predict", body.replace(b'name="file"', b'name="another"'), kind),
        ("/predict", body.replace(b"content-disposition", b"x-disposition"), kind),
        ("/predict", b"file=x", "application/x-www-form-urlencoded"),
        ("/teach", b'{"label": "x", "files": []}', "application/json"),
        ("/teach", form([("label", "label.txt", b"hum"), ("files", "a.wav", content)])[0], "multipart/form-data"),
        ("/undo", b"version=1", "application/x-www-form-urlencoded"),
        ("/undo", b'{"version": 1', "application/json"),
        ("/undo", b'{"version": 1}', "text/plain"),
        ("/undo", b'{"version": -1}', "application/json"),
        ("/undo", b'{"version": 1, "else": 2}', "application/json"),
        ("/undo", b'{"version": ' + b"9" * 5000 + b"}", "application/json"),
        ("/undo", b"[" * 20_000, "application/json"),
        ("/undo", b"\xff\xfe", "application/json"),
        ("/undo", b"null", "application/json"),
        ("/undo", b"", "application/json"),
        ("/forget", b"{}", "application/json"),
        ("/forget", b'{"name": ""}', "application/json"),
        ("/forget", b'{"name": "\\ud800"}', "application/json"),
        ("/forget", b'{"name": "a\\u0000b"}', "application/json"),
        ("/forget", json.dumps({"name": "x" * 10_000}).encode(), "application/json"),
        ("/forget", b'{"name": ["low"]}', "application/json"),
        ("/lessons/x/commit", b'{"force": "perhaps"}', "application/json"),
        ("/lessons/x/commit", b"{}", "application/json"),
    ]
    for path, content, kind in posts:
        said = victim.client.ask("POST", path, content, {} if kind is None else {"content-type": kind})
        assert said.status in (400, 404, 409, 422), (path, content[:100], said)
        assert said.error and len(said.error) < 1000, said
    for charset in ("utf-16", "utf-7", "idna", "punycode", "undefined", "rot13", "zlib", "unicode_escape", "nonsense"):
        body, kind = form([("label", None, b"+2AA-"), ("files", "+2AA-.wav", b"")])
        said = victim.client.ask("POST", "/teach", body, {"content-type": f"{kind}; charset={charset}"})
        assert said.status in (400, 422) and said.error, charset
    for method, path in (("PUT", "/predict"), ("GET", "/predict"), ("PATCH", "/model"), ("TRACE", "/"),
                         ("OPTIONS", "/undo"), ("BREW", "/model"), ("POST", "/health"),
                         ("DELETE", "/model")):  # fmt: skip
        assert victim.client.ask(method, path).status == 405, (method, path)


def test_headers_without_end_are_cut_off(victim: Server, good: Path) -> None:
    for head in (b"a: " + b"b" * 200_000, b"a" * 200_000, b"\r\n".join(b"x-%d: y" % k for k in range(50_000))):
        said = victim.client.raw(b"GET /health HTTP/1.1\r\nhost: localhost\r\n" + head, wait=5)
        assert said == b"" or said.startswith(b"HTTP/1.1 400 ") or said.startswith(b"HTTP/1.1 431 "), said[:100]
    assert victim.client.raw(b"GET /" + b"a" * 200_000, wait=5)[9:12] in (b"", b"400", b"414")
    for nonsense in (
        b"\0\0\0\0", b"GET", b"GET / HTTP/9.9\r\nconnection: close", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM", b"GET / HTTP/1.1\r\nhost: localhost\r\nbad header",
    ):  # fmt: skip
        said = victim.client.raw(nonsense + b"\r\n\r\n", wait=5)
        assert said[9:12] in (b"", b"400", b"403"), nonsense
    part = [("file", 'a.wav"; x="' + "y" * 100_000, good.read_bytes())]
    assert victim.client.send("/predict", part).status == 400
    alive(victim, good)


def test_a_request_cannot_be_smuggled_in_another(victim: Server) -> None:
    post = b"POST /undo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    inner = post + b"connection: close\r\ncontent-length: 2\r\n\r\n{}"
    length = b"content-length: %d\r\n" % len(inner)
    cases = {
        "two lengths": post + b"content-length: 2\r\n" + length + b"\r\n{}" + inner,
        "a list of lengths": post + b"content-length: 2, %d\r\n\r\n{}" % len(inner) + inner,
        "length and chunks": post + length + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
        "odd chunks": post + b"transfer-encoding: xchunked\r\n\r\n" + inner,
        "hidden chunks": post + b"transfer-encoding : chunked\r\n" + length + b"\r\n0\r\n\r\n" + inner,
        "bad size": post + b"transfer-encoding: chunked\r\n\r\n-1\r\n\r\n" + inner,
        "two hosts": b"POST /undo HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\ncontent-length: 2\r\n\r\n{}",
        "no host": b"POST /undo HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}",
    }
    for name, request in cases.items():
        said = victim.client.raw(request, wait=2)
        statuses = [piece[:3] for piece in said.split(b"HTTP/1.1 ")[1:]]
        if name == "length and chunks":  # By the standard chunks count, and what follows is a request of its own.
            assert set(statuses) <= {b"400", b"409", b"422"}, said
        else:
            assert statuses == [b"400"], (name, said)
    assert victim.client.get("/health").json["version"] == 1


# ---- pace -----------------------------------------------------------------------------------------------------------


def test_an_upload_that_stops_or_drips_is_ended(victim: Server, good: Path, monkeypatch: Any) -> None:
    head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=b\r\n"
    head += b"connection: close\r\ncontent-length: 100000\r\n\r\n"
    monkeypatch.setattr(guard, "PAUSE", 0.2)
    said = victim.client.raw(head + b"--b\r\n")
    assert said.startswith(b"HTTP/1.1 408 ") and b"nothing came for 0.2 s" in said
    monkeypatch.setattr(guard, "PAUSE", 20.0)
    monkeypatch.setattr(guard, "GRACE", 0.3)
    with socket.create_connection(("127.0.0.1", victim.client.port), timeout=60) as line:
        line.sendall(head + b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n')
        said = b""
        try:
            for _ in range(100):
                line.sendall(b"-")
                time.sleep(0.02)
        except OSError:
            pass  # It has hung up already.
        line.settimeout(60)
        try:
            said = line.recv(1 << 16)
        except ConnectionError:
            said = b""
    assert said == b"" or (said.startswith(b"HTTP/1.1 408 ") and b"bytes a second" in said)
    assert victim.swept()
    monkeypatch.undo()
    alive(victim, good)


def test_who_goes_away_in_the_middle_of_an_upload_leaves_nothing(victim: Server, good: Path) -> None:
    body, kind = form(parts(bytes(MIB)))
    head = f"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    for share in (0, 100, len(body) // 2, len(body) - 1):
        with socket.create_connection(("127.0.0.1", victim.client.port)) as line:
            line.sendall(head.encode() + body[:share])
    assert victim.swept()
    alive(victim, good)


def test_who_reads_nothing_keeps_nobody_waiting(base: Path, tmp_path: Path, good: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(guard, "STALLED", 1.0)
    with served(base, tmp_path / "temporary") as other:
        body, kind = form(parts(good))
        head = f"POST /predict HTTP/1.1\r\nhost: localhost\r\naccept: {LINES}\r\ncontent-type: {kind}\r\n"
        request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        with ExitStack() as stack:
            with monkeypatch.context() as patch:
                patch.setattr(asking, "read", misdeeds.floods)
                for _ in range(3):
                    line = stack.enter_context(socket.create_connection(("127.0.0.1", other.client.port)))
                    line.sendall(request)
                assert until(workers)
                assert until(lambda: len(other.left()) >= 4)  # The second has come too.
            alive(other, good)
            assert other.swept()


# ---- other sites ----------------------------------------------------------------------------------------------------


def test_a_foreign_name_of_this_machine_is_not_answered(victim: Server) -> None:
    for host in ("evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::2]",
                 "[", "]", "[::1", "0.0.0.0", "localhost:80@evil.example"[::-1], "\xff"):  # fmt: skip
        for path in ("/", "/model", "/static/app.css", "/login", "/openapi.json"):
            said = victim.client.raw(
                f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode("latin-1"), wait=10
            )
            assert said.startswith(b"HTTP/1.1 403 ") or (said.startswith(b"HTTP/1.1 400 ") and host in ("", "\xff")), (
                host,
                said,
            )
    for host in ("localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:8420"):
        assert victim.client.get("/health", host=host).status == 200


FOREIGN = (
    {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://localhost.evil.example"}, {"origin": ""},
    {"origin": "http://127.0.0.1:1"}, {"origin": "http://localhost"}, {"origin": "file://"}, {"origin": "http://["},
    {"origin": "http://evil.example@localhost"}, {"origin": "\xff"}, {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "nonsense"},
    {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
)  # fmt: skip


@pytest.mark.parametrize("token", [False, True])
def test_a_page_of_another_site_changes_nothing(victim: Server, locked: Server, token: bool, good: Path) -> None:
    client = locked.client if token else victim.client
    for foreign in FOREIGN:
        for method, path in (("POST", "/undo"), ("POST", "/forget"), ("POST", "/predict"),
                             ("POST", "/teach"), ("POST", "/lessons/x/commit"), ("DELETE", "/lessons/x"),
                             ("OPTIONS", "/undo")):  # fmt: skip
            said = client.ask(method, path, b"{}", {"content-type": "application/json", **foreign})
            assert said.status == 403 and said.error == "a page of another site may not change anything here", (
                foreign,
                said,
            )
            assert not any(name.startswith("access-control") for name in said.headers)
    own = {"origin": f"http://127.0.0.1:{client.port}", "sec-fetch-site": "same-origin"}
    assert client.ask("POST", "/undo", b"{}", {"content-type": "application/json", **own}).status == 409
    assert client.send("/predict", parts(good), **own).status == 200


def test_every_answer_forbids_frames_sniffing_and_scripts_of_others(victim: Server, locked: Server) -> None:
    for client in (victim.client, locked.client):
        for path in ("/", "/model", "/nowhere", "/static/app.css", "/login", "/docs", "/openapi.json", "/examples/x"):
            for headers in ({}, {"host": "evil.example"}, {"authorization": "Bearer wrong"}):
                said = client.ask("GET", path, headers=headers)
                policy = said.headers["content-security-policy"]
                assert (
                    "default-src 'none'" in policy
                    and "script-src 'self';" in policy
                    and "frame-ancestors 'self'" in policy
                )
                assert "unsafe-eval" not in policy and "script-src 'self' 'unsafe-inline'" not in policy
                assert said.headers["x-content-type-options"] == "nosniff"
                assert said.headers["referrer-policy"] == "no-referrer"
                assert said.headers["cross-origin-resource-policy"] == "same-origin"


# ---- the token ------------------------------------------------------------------------------------------------------


def test_without_the_token_there_is_only_the_door(locked: Server, good: Path) -> None:
    client = Client(locked.client.port)
    paths = [("GET", path) for path in ("/", "/model", "/health", "/knows", "/benches", "/docs", "/openapi.json",
             "/examples/x", "/lessons/x", "/nowhere", "/LOGIN", "//login", "/%6cogi%6e/x", "/static",
             "/login/../model")]  # fmt: skip
    paths += [("POST", path) for path in ("/predict", "/teach", "/undo", "/forget", "/lessons/x/commit")]
    cookie = "harkback-8420"
    wrong: list[dict[str, str]] = [
        {}, {"authorization": "Bearer "}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {TOKEN}x"}, {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": "Bearer \xff\xfe"}, {"cookie": f"{cookie}=wrong"}, {"cookie": f"harkback-1={TOKEN}"},
        {"cookie": f"{cookie}="}, {"cookie": "=;;=\xff"}, {"cookie": f'{cookie}="'},
        {"cookie": f"$Version=1; {cookie}=wrong"}, {"x-token": TOKEN},
    ]  # fmt: skip
    for method, path in paths:
        for headers in wrong if path in ("/model", "/undo") else wrong[:3]:
            said = client.ask(method, path, headers=headers)
            if path == "/%6cogi%6e/x" or path.startswith("/login"):
                assert said.status == 404  # Under the door, where nothing is.
                continue
            assert said.status == 401 and said.headers["www-authenticate"] == "Bearer", (method, path, headers, said)
            assert TOKEN not in said.error
        assert client.ask(method, f"{path}?token={TOKEN}").status in (401, 404)
    assert client.get("/login").status == 200 and client.get("/static/app.css").status in (200, 404)
    for right in ({"authorization": f"Bearer {TOKEN}"}, {"cookie": f"{cookie}={TOKEN}"},
                  {"cookie": f'other={{"a": [1]}}; bad name; {cookie}={TOKEN}; x'}):  # fmt: skip
        assert client.ask("GET", "/model", headers=right).status == 200, right


def test_the_door_opens_to_the_token_alone(locked: Server) -> None:
    client = Client(locked.client.port)
    for token in ("", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "%ff%fe", "%00", TOKEN + "%00"):
        said = client.get(f"/login?token={token}")
        assert said.status == (401 if token else 200) and "set-cookie" not in said.headers, token
        assert TOKEN.encode() not in said.body
    said = client.get(f"/login?token={TOKEN}")
    assert (said.status, said.headers["location"]) == (303, "/")
    name, _, rest = said.headers["set-cookie"].partition("=")
    value, *flags = [part.strip().lower() for part in rest.split(";")]
    assert name == "harkback-8420" and value == TOKEN
    assert {"httponly", "samesite=strict", "path=/"} <= set(flags) and not any(
        flag.startswith("domain") for flag in flags
    )
    assert said.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", [None, "127.0.0.1"])
def test_a_host_that_is_named_demands_a_token(base: Path, host: str | None, monkeypatch: Any, capsys: Any) -> None:
    from harkback.app import serving
    from harkback.app.room import Serving

    made: list[Serving] = []

    class Told(Exception):
        pass

    def make(given: Serving) -> None:
        made.append(given)
        raise Told

    monkeypatch.setattr(serving, "make", make)
    with pytest.raises(Told):
        serving.serve(Serving(base), host, 0, browser=False)
    (given,) = made
    assert (given.token is None) == (host is None) and given.port > 0
    if given.token is not None:
        assert len(given.token) >= 32


def test_an_upgrade_to_a_websocket_is_refused(victim: Server, locked: Server) -> None:
    for client, headers in ((victim.client, ""), (locked.client, f"authorization: Bearer {TOKEN}\r\n")):
        for path in ("/", "/model", "/predict", "/nowhere"):
            said = client.raw(
                f"GET {path} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade, close\r\n"
                f"{headers}sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n".encode(),
                wait=10,
            )
            assert said and not said.startswith(b"HTTP/1.1 101"), said[:200]


# ---- decoders that go wrong -----------------------------------------------------------------------------------------

CRASH = "crashed the decoder; convert the file to another format"


@pytest.mark.parametrize(
    ("deed", "limits", "line"),
    [
        ("aborts", Limits(), CRASH),
        ("killed", Limits(), CRASH),
        ("leaves", Limits(), CRASH),
        ("sleeps", Limits(silence=0.3), "took more than 0.3 s; take a shorter clip, or convert it"),
        ("spins", Limits(computing=1), "took more than 1 s of computing; take a shorter clip"),
        ("devours", Limits(memory=300 * MIB), "does not fit in memory; take a shorter clip"),
        ("fails", Limits(), "failed with RuntimeError: of all things; please report it"),
    ],
)
def test_a_decoder_that_goes_wrong_is_a_failure_of_its_file(
    victim: Server, good: Path, monkeypatch: Any, deed: str, limits: Limits, line: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(asking, "read", getattr(misdeeds, deed))
        patch.setattr(room, "DECODING", limits)
        said = victim.client.predict(good)
        assert said.status == 422 and said.error == line
    assert victim.swept()
    alive(victim, good)


@pytest.mark.parametrize(
    ("deed", "limits", "line"),
    [
        ("aborts", Limits(), CRASH),
        ("sleeps", Limits(silence=0.3), "took more than 0.3 s"),
        ("devours", Limits(memory=300 * MIB), "does not fit in memory"),
    ],
)
def test_a_decoder_that_goes_wrong_in_a_lesson_costs_that_clip(
    victim: Server, base: Path, good: Path, tmp_path: Path, monkeypatch: Any, deed: str, limits: Limits, line: str
) -> None:
    bad = tone(tmp_path / "bad.wav", 333)
    monkeypatch.setattr(decoding, "_said", misdeeds.Poisoned(bad.stat().st_size, deed))
    monkeypatch.setattr(lessons, "DECODING", limits)
    with served(base, tmp_path / "temporary") as other:
        lesson = other.client.taught("hum", [good, bad], dry_run="true")
        assert lesson["state"] == "asking", lesson
        first, second = lesson["clips"]
        assert (first["state"], second["state"]) == ("read", "left out") and line in second["reason"]
        assert other.client.ask("DELETE", f"/lessons/{lesson['id']}").status == 200 and other.swept()


def test_a_teacher_that_crashes_leaves_the_model_as_it_was(
    base: Path, tmp_path: Path, good: Path, monkeypatch: Any
) -> None:
    model = Path(shutil.copytree(base, tmp_path / "victim"))
    before = everything(model)
    with served(model, tmp_path / "temporary") as server:
        monkeypatch.setattr(lessons, "learn", misdeeds.killed)
        lesson = server.client.taught("hum", [good])
        assert lesson["state"] == "failed"
        assert lesson["error"].startswith("the process that learnt was ended from outside, perhaps for want of memory;")
        assert everything(model) == before and server.swept()
        monkeypatch.undo()
        assert server.client.taught("hum", [good], force="true")["state"] == "done"


def test_a_teacher_that_crashes_when_the_model_was_changed_has_taught(
    base: Path, tmp_path: Path, good: Path, monkeypatch: Any
) -> None:
    straight, model = (Path(shutil.copytree(base, tmp_path / name)) for name in ("straight", "victim"))
    with served(straight, tmp_path / "temporary") as server:
        expected = server.client.taught("hum", [good], force="true")
    with served(model, tmp_path / "temporary") as server:
        monkeypatch.setattr(lessons, "learn", misdeeds.teaches_and_is_killed)
        lesson = server.client.taught("hum", [good], force="true")
        assert (lesson["state"], lesson["error"]) == ("done", None)
        assert lesson["outcome"] == expected["outcome"]
        again = server.client.taught("hum", [good], force="true")  # And what was not taught has failed.
        assert again["state"] == "failed" and "nothing new to learn" in again["error"]
    assert Model(model).classes == Model(straight).classes


def test_lessons_that_nobody_decides_are_few(base: Path, tmp_path: Path, good: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(lessons, "ASKING", 1)
    model = Path(shutil.copytree(base, tmp_path / "victim"))
    with served(model, tmp_path / "temporary") as server:
        lesson = server.client.taught("hum", [good], dry_run="true")
        assert lesson["state"] == "asking"
        refused = server.client.teach("hum", [good], dry_run="true")
        assert refused.status == 503
        assert refused.error == "1 lessons wait for a decision; teach or leave some of them first"
        server.client.ask("DELETE", f"/lessons/{lesson['id']}")
        assert server.client.taught("hum", [good], dry_run="true")["state"] == "asking"


def test_a_broken_upload_leaves_model_and_server_as_they_were(base: Path, tmp_path: Path, good: Path) -> None:
    model = Path(shutil.copytree(base, tmp_path / "victim"))
    before = everything(model)
    content = film(tmp_path / "a.mp4", [gray(9 * k) for k in range(25)]).read_bytes()
    with served(model, tmp_path / "temporary") as server:
        for broken in (
            content[: len(content) // 2],
            content[:20],
            bytes(len(content)),
            content[::-1],
            os.urandom(0) + b"RIFF",
        ):
            (tmp_path / "broken.mp4").write_bytes(broken)
            assert server.client.predict(broken).status == 422
            assert server.client.taught("hum", [tmp_path / "broken.mp4"])["state"] == "failed"
        assert everything(model) == before and server.swept()
        alive(server, good)
        assert server.said == []


def test_a_damaged_model_is_told_of_without_its_place(base: Path, tmp_path: Path, good: Path) -> None:
    model = Path(shutil.copytree(base, tmp_path / "s3cret" / "victim"))
    with served(model, tmp_path / "temporary") as server:
        content = (model / "model.json").read_bytes()
        for damaged in (content[: len(content) // 2], content.replace(b"low", b"mow"), b"", b"[]"):
            (model / "model.json").write_bytes(damaged)
            for reply in (
                server.client.get("/model"), server.client.get("/health"), server.client.predict(good),
                server.client.post("/forget", {"name": "low"}), server.client.post("/undo", {"version": 1}),
                server.client.get("/knows"), server.client.get("/examples/x"), server.client.post("/undo", {}),
                server.client.send("/teach", [("label", None, b"hum"), ("files", "a.wav", good.read_bytes())]),
            ):  # fmt: skip
                assert reply.status == 409 and reply.error, (damaged, reply)
        check_no_places(server.client, model, server.temporary, tmp_path)
        (model / "model.json").write_bytes(content)
        alive(server, good)
        assert server.swept() and server.said == []


# ---- crowds ---------------------------------------------------------------------------------------------------------


def test_a_crowd_is_told_to_come_back(base: Path, tmp_path: Path, good: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(programs, "CROWD", 2)
    monkeypatch.setattr(asking, "read", misdeeds.sleeps)
    with served(base, tmp_path / "temporary") as other, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(other.client.predict, good) for _ in range(2)]
        assert until(lambda: len(other.left()) == 4)
        late = other.client.predict(good)
        assert late.status == 503 and late.error == "2 files wait already; try again later"
        assert other.client.get("/health").status == 200  # Whoever does not ask for a prediction is answered.
        monkeypatch.undo()

        def ended() -> bool:
            for worker in workers():
                worker.kill()
            return all(each.done() for each in waiting)

        assert until(ended)
        assert {each.result().status for each in waiting} <= {422}
        assert other.swept()
        alive(other, good)


@pytest.mark.slow
def test_mutilated_films_are_answered_or_refused(victim: Server, tmp_path: Path, good: Path) -> None:
    some = random.Random(0)
    images = [gray(9 * k, (48, 64)) for k in range(12)]
    whole = [
        film(tmp_path / f"a.{kind}", images, codec=codec).read_bytes()
        for kind, codec in (("mp4", "mpeg4"), ("mkv", "mpeg4"), ("avi", "mjpeg"), ("mov", "png"), ("webm", "libvpx"))
    ]
    whole += [good.read_bytes(), png(64, 64, 64), gif(64, 64)]
    for number in range(120):
        content = bytearray(whole[number % len(whole)])
        for _ in range(some.choice((1, 3, 30))):
            content[some.randrange(len(content) if number % 2 else min(200, len(content)))] = some.randrange(256)
        if some.random() < 0.2:
            del content[some.randrange(len(content)) :]
        said = victim.client.predict(bytes(content) or b"x", f"a{number}.mp4")
        assert said.status in (200, 422), (number, said)
        assert said.status == 200 or "report it" not in said.error, said.error
    assert victim.swept()
    alive(victim, good)


@pytest.mark.slow
def test_fifty_at_once_are_all_answered_alike(drawn: Path, store: Path, tmp_path: Path) -> None:
    path = tmp_path / "rover"
    root = Path(shutil.copytree(drawn, tmp_path / "clips"))
    (root / "demo.json").unlink()
    teach(path, root, store=store, making=Making(learner="ridge", memory=12))
    files = sorted((root / "test").glob("*/*.mp4"))
    expected = {file: Model(path).predict(file)[0] for file in files}
    with served(path, tmp_path / "temporary") as server, ThreadPoolExecutor(50) as pool:
        asked = [files[k % len(files)] for k in range(50)]
        for file, said in zip(asked, pool.map(server.client.predict, asked), strict=True):
            assert said.status == 200, said
            (answer,) = said.json["answers"]
            assert (
                answer["confidence"] == round(expected[file].confidence, 6)
                and answer["likeliest"] == expected[file].likeliest
            )
        assert server.swept() and server.said == []


@pytest.mark.slow
def test_memory_and_descriptors_do_not_grow(drawn: Path, tmp_path: Path, base: Path) -> None:
    files = sorted((drawn / "test").glob("*/*.mp4"))
    this = psutil.Process()

    def held() -> tuple[int, int, int]:
        """Bytes of this process, of it and its children, and its descriptors; when nothing works."""
        assert until(lambda: not workers())
        family = [this, *this.children(recursive=True)]
        return this.memory_info().rss, sum(each.memory_info().rss for each in family), this.num_fds()

    with served(base, tmp_path / "temporary") as server, ThreadPoolExecutor(8) as pool:

        def crowd(count: int) -> None:
            for said in pool.map(server.client.predict, [files[k % len(files)] for k in range(count)]):
                assert said.status == 200, said

        crowd(40)
        before = held()
        for _ in range(2):
            crowd(40)
        alone, together, descriptors = held()
        assert alone < 1.1 * before[0] and together < 1.1 * before[1]
        assert descriptors <= before[2] + 8
