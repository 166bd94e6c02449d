"""A model's folder to the Hugging Face hub, and back: one commit up, one commit down, and never a pickle."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harkback.encoders._hub import HEADERS, INSTALL, library
from harkback.encoders._hub_errors import PAGE, Wish, explained, last_line
from harkback.errors import HarkbackError

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
#: All that a model consists of. Nothing else goes to the hub, and nothing else is fetched from it.
NAME = re.compile(r"README\.md|model\.json|(?:ledger/)?[A-Za-z0-9][\w-]*\.safetensors", re.ASCII)
FACTS = "model.json"


def push(folder: Path, repo: str, *, files: Sequence[str], message: str, forget_history: bool = False) -> str:
    """Make the newest revision of a repository on the hub hold just these files of the folder. Returns its address.

    files: names within the folder, with ``/``: README.md, model.json, ``*.safetensors``, ``ledger/*.safetensors``. All
    changes are one commit, so who pulls gets all of it or nothing of it. What the repository had besides is deleted
    from its newest revision (but for names that begin with a dot, which are the hub's own). A repository that does not
    exist is made, private; one that does stays as visible as it is.

    Older revisions still hold what was deleted: a class that was forgotten can be read there. forget_history: squash
    the branch ``main`` to one commit, which cannot be undone. Other branches, tags and copies of other people keep what
    they have, and the hub may keep large files that no revision names until they are deleted in the repository's
    settings.

    Address and token are those of the hub's own library (HF_ENDPOINT, HF_TOKEN, `hf auth login`). Raises
    `HarkbackError`; the repository is then as it was, except where the message says otherwise.
    """
    for name in files:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name} is no file of a model")
    lacking = next((name for name in files if not (folder / name).is_file()), None)
    if lacking is not None:
        raise HarkbackError("is missing", where=folder / lacking, mend="check that the folder is a model")
    api = _api(repo)
    with _told(repo):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        address = str(api.create_repo(repo, private=True, exist_ok=True))
        now = api.model_info(repo)
        there = [each.rfilename for each in now.siblings or () if not each.rfilename.startswith(".")]
        if set(there) - {"README.md"} and FACTS not in there:
            what = f"holds {len(there)} files and is no Harkback model, so they were not replaced"
            raise HarkbackError(what, where=repo, mend="give the name of a new repository, or of a model")
        gone = [CommitOperationDelete(name) for name in there if name not in files]
        come = [CommitOperationAdd(name, str(folder / name)) for name in files]
        # The parent: what was pushed by somebody else meanwhile is not overwritten unseen.
        api.create_commit(repo, [*gone, *come], commit_message=message, parent_commit=now.sha)
    if forget_history:
        try:
            api.super_squash_history(repo, commit_message=message)
        except Exception as error:  # As in `_told`.
            what = f"was pushed, but its older revisions are still there ({_said(error)})"
            raise HarkbackError(what, where=repo, mend="push again with the history to be forgotten") from error
    return address


def pull(repo: str, folder: Path, *, revision: str | None = None) -> None:
    """Fetch a model from the hub into a folder that is new or empty: all of one commit, or nothing.

    revision: a branch, a tag or a commit; None: the newest. Only a model's own files come, whatever else the repository
    holds: README.md, model.json and ``*.safetensors``. They are written beside the folder and moved in as a whole.
    Address and token: as for `push`. Raises `HarkbackError`.
    """
    api = _api(repo)
    folder = folder.absolute()
    wish = Wish(repo, revision or "main", (), "Harkback", "anna/rover", None, into=folder)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.pulled")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise HarkbackError("is there already", where=folder, mend="give a folder that is new or empty")
        shutil.rmtree(beside, ignore_errors=True)  # Of a killed process that had our number.
        beside.mkdir(parents=True)
        with explained(wish):
            now = api.model_info(repo, revision=revision)
            names = [each.rfilename for each in now.siblings or () if NAME.fullmatch(each.rfilename)]
            if FACTS not in names:
                raise wish.error("is no Harkback model: it has no model.json", "check the name")
            for name in names:  # By commit: what is pushed meanwhile does not get between them.
                api.hf_hub_download(repo, name, revision=now.sha, local_dir=beside)
        shutil.rmtree(beside / ".cache", ignore_errors=True)  # The library's own notes.
        if folder.exists():
            folder.rmdir()
        beside.rename(folder)
    except OSError as error:
        what = error.strerror or str(error)
        raise HarkbackError(what, where=folder, mend="choose another folder or change its permissions") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _api(repo: str) -> Any:
    """The hub's library, ready to be asked."""
    if not REPO.fullmatch(repo):
        raise HarkbackError("is no name on the hub", where=repo or '""', mend="give owner/name, such as anna/rover")
    hub = library()
    if hub is None:
        raise HarkbackError("the hub's library is missing", where=repo, mend=INSTALL)
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise HarkbackError("HF_HUB_OFFLINE is set, so the hub is not asked", where=repo, mend="unset it")
    return hub.HfApi(endpoint=constants.ENDPOINT, headers=HEADERS)


@contextmanager
def _told(repo: str) -> Iterator[None]:
    """Whatever goes wrong while pushing becomes one line that says what to click or type."""
    try:
        yield
    except HarkbackError:
        raise
    except Exception as error:  # The library's, its HTTP client's, the system's: others in every version of it.
        raise _mended(error, repo) from error


def _mended(error: BaseException, repo: str) -> HarkbackError:
    from huggingface_hub import constants

    chain = [error]
    while inner := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(inner)
    lost = next((each for each in chain if isinstance(each, OSError) and each.filename), None)
    if lost is not None:
        return HarkbackError(lost.strerror or str(lost), where=lost.filename, mend="check the folder")
    refusal = next((each for each in chain if getattr(each, "response", None) is not None), None)
    if refusal is None:
        what = f"the hub cannot be reached at {constants.ENDPOINT}, or the connection broke ({last_line(chain[-1])})"
        return HarkbackError(what, where=repo, mend="check the connection and push again")
    response: Any = getattr(refusal, "response", None)
    status, said = response.status_code, _said(refusal)
    tokens = f"{PAGE}/settings/tokens"
    if status == 401 and "authorization" not in response.request.headers:
        what, mend = "nobody is logged in here", "`hf auth login` with a token that may write, or put one in HF_TOKEN"
    elif status == 401:
        what, mend = "the hub does not accept your token", f"make a new one at {tokens}, then `hf auth login`"
    elif status in (403, 404):
        what = f"your token may not write there ({said})"
        mend = f"check the owner's name, and at {tokens} what the token may do"
    elif status in (409, 412):
        what, mend = "somebody else pushed at the same time", "push again"
    elif status == 429:
        what, mend = "the hub says: too many requests (429)", "wait some minutes and push again"
    elif status >= 500:
        what, mend = f"the hub is in trouble ({status})", "push again later"
    else:
        what, mend = f"the hub refuses ({status}): {said}", f"look at {PAGE}/{repo}"
    return HarkbackError(what, where=repo, mend=mend)


def _said(error: BaseException) -> str:
    """The hub's own words, if it said any; else the library's."""
    return str(getattr(error, "server_message", None) or last_line(error))
