"""Why no clip can be had from a file."""

from __future__ import annotations

from harkback.errors import HarkbackError


class MediaError(HarkbackError):
    """No clip can be had from this file."""

    lasting = True  #: it lies in the file, so that to try again is of no use


class NotMedia(MediaError):
    """The file cannot be opened, or FFmpeg does not know what it is."""


class Unreachable(NotMedia):
    """The file cannot be opened or read now, which says nothing about what it holds."""

    lasting = False


class TooLarge(MediaError):
    """There is too little memory for it here and now."""

    lasting = False


class Truncated(MediaError):
    """The file stops before it said it would, or most of it does not decode."""


class NothingInside(MediaError):
    """The file holds neither a picture nor a sound that can be decoded."""


class ZeroLength(MediaError):
    """The window holds no time: it is empty, reversed, or lies outside the file."""
