"""Why the hub did not give a model, in words for somebody who wants to get on."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harkback.errors import HarkbackError

#: Names, or alternatives of which the first that there is will do. With an index come the files that it names.
Files = Sequence[str | tuple[str, ...]]

PAGE = "https://huggingface.co"  # HF_ENDPOINT may be a mirror, but access is asked for, and tokens are made, only here.

FULL = (errno.ENOSPC, errno.EDQUOT)
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


@dataclass(frozen=True, slots=True)
class Wish:
    """A model that is to come from the hub, and the words that messages about it need."""

    id: str
    revision: str
    files: Files
    kind: str
    example: str
    open_sibling: str | None
    #: The folder that it is to become; None: the hub's cache, as no folder of its name is here.
    into: Path | None = None

    def error(self, what: str, mend: str) -> HarkbackError:
        where = self.id if self.revision == "main" else f"{self.id}@{self.revision}"
        return HarkbackError(what, where=where, mend=mend)

    @property
    def elsewhere(self) -> str:
        """How to do without a connection."""
        names = "".join(f" {entry if isinstance(entry, str) else entry[0]}" for entry in self.files)
        at = "" if self.revision == "main" else f" --revision {self.revision}"
        then = "`--model DIR`" if self.into is None else "copy DIR"
        return f"`hf download {self.id}{names}{at} --local-dir DIR` where there is a connection, then {then}"

    @property
    def lead(self) -> str:
        return "no such folder here, and " if self.into is None else ""


@contextmanager
def explained(wish: Wish) -> Iterator[None]:
    """Whatever goes wrong in the block becomes one line that says what to click or type."""
    try:
        yield
    except HarkbackError:
        raise
    except Exception as error:  # The library's, its HTTP client's, the system's: others in every version of it.
        raise _mended(error, wish) from error


def last_line(error: BaseException) -> str:
    """The hub's own words stand there; before them stand addresses and advice on Python."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def token_place() -> str | None:
    """Where a token is, if one is; the library's own question would renew it over the network."""
    from huggingface_hub.constants import HF_TOKEN_PATH

    named = next((name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(name)), None)
    path = Path(HF_TOKEN_PATH)
    return named or (str(path) if path.is_file() and path.stat().st_size else None)


def _mended(error: BaseException, wish: Wish) -> HarkbackError:
    from huggingface_hub import constants, errors

    while isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:  # It only says that it found nothing.
        error = error.__cause__
    response: Any = getattr(error, "response", None)
    if response is not None:
        return _refused(error, response, wish)
    for number in (*FULL, *CLOSED):
        # Parts of the library that are not Python wrap the system's errors and lose their number.
        if getattr(error, "errno", None) == number or f"(os error {number})" in str(error):
            if wish.into is not None:
                mend = "free some space" if number in FULL else "choose another folder or change its permissions"
                return HarkbackError(os.strerror(number), where=wish.into, mend=mend)
            mend = "free some space, or set HF_HUB_CACHE to a folder on a larger disk"
            mend = mend if number in FULL else "set HF_HUB_CACHE to a folder of yours"
            return HarkbackError(os.strerror(number), where=constants.HF_HUB_CACHE, mend=mend)
    while inner := error.__cause__ or error.__context__:  # What the system said; clients of HTTP wrap it many times.
        error = inner
    what = f"{wish.lead}the hub cannot be reached at {constants.ENDPOINT}, or the connection broke"
    return wish.error(f"{what} ({last_line(error)})", f"check the connection and try again, or {wish.elsewhere}")


def _refused(error: BaseException, response: Any, wish: Wish) -> HarkbackError:
    """The hub answered, but not with the file."""
    from huggingface_hub import errors

    status, logged_in = response.status_code, "authorization" in response.request.headers
    page = f"{PAGE}/{wish.id}"
    if status == 401 and logged_in:
        how = "put it in HF_TOKEN" if token_place() == "HF_TOKEN" else "`hf auth login` again"
        return wish.error("the hub does not accept your token", f"make a new one at {PAGE}/settings/tokens and {how}")
    if status == 403 and "fine-grained" in str(error):
        what = "your token may not read gated models"
        return wish.error(what, f"open {PAGE}/settings/tokens and let it read public gated repositories")
    if isinstance(error, errors.GatedRepoError):
        return _gated(str(error), logged_in, page, wish)
    if isinstance(error, errors.RepositoryNotFoundError):
        mend = f"check the spelling (an id is like {wish.example}); if it is private, `hf auth login` first"
        return wish.error(f"{wish.lead}no such model on the hub", mend)
    if isinstance(error, errors.RevisionNotFoundError):
        return wish.error(f'has no revision "{wish.revision}"', f"choose one at {page}/tree/main")
    if status == 429:
        mend = "wait some minutes and try again" + ("" if logged_in else "; `hf auth login` allows more")
        return wish.error("the hub says: too many requests (429)", mend)
    if status >= 500:
        return wish.error(f"the hub is in trouble ({status})", f"try later, or {wish.elsewhere}")
    return wish.error(f"the hub refuses ({status}): {last_line(error)}", f"look at {page}")


def _gated(text: str, logged_in: bool, page: str, wish: Wish) -> HarkbackError:
    if not logged_in:
        what, mend = (
            "is gated, and nobody is logged in here",
            f"open {page}, ask for access there, then `hf auth login`",
        )
    elif "awaiting" in text:
        what, mend = "is gated, and your request is not answered yet", f"wait for the mail of approval ({page})"
    elif "rejected" in text:
        what, mend = "is gated, and its authors rejected your request", f"ask them at {page}/discussions"
    else:
        what = "is gated, and your account has no access yet"
        mend = f'open {page} and click "Request access", or wait for the mail of approval if you have'
    return wish.error(what, f"{mend}; or use {wish.open_sibling}, open to all" if wish.open_sibling else mend)
