"""Harkback: an audio-visual classifier that is taught new classes and does not forget the old ones."""

__version__ = "0.1.0"
