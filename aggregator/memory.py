"""What was solved before: an episodic memory of verified answers, one for each owner."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
import unicodedata
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aggregator.base import AggregatorError
from data.encoders import get_encoder

Verify = Callable[[str, str], Awaitable[bool]]
"""Says whether an answer to a question is right."""

NEAR = 0.5
"""Cosine from which on a question is similar to another; of the static encoder, unrelated ones stay below."""

_LOCK = threading.Lock()  # one for all memories of the process: two of them may be the same folder


@dataclass(frozen=True, slots=True)
class Solved:
    """A question and its answer.

    Attributes:
        question: What was asked.
        answer: What was answered, and found right.
    """

    question: str
    answer: str


def question_hash(question: str) -> str:
    """The hash by which a question is forbidden: case, marks and spaces do not count.

    Example:
        >>> question_hash("What is 2 + 2?") == question_hash(" what is 2+2 ")
        True
    """
    plain = unicodedata.normalize("NFKC", question).casefold()
    return _digest("".join(sign for sign in plain if sign.isalnum() or unicodedata.category(sign) == "Sm"))


class Memory:
    """Verified answers of each owner, kept as one file of JSON lines per owner.

    Nothing gets in unverified, nothing of one owner is read for another, and who has no owner neither stores nor reads. A
    line is written in one piece; one that a crash has torn is skipped.

    Args:
        folder: Where the files lie; it is made when the first answer is stored.
        forbidden: Hashes (`question_hash`) of questions that are never stored or read, such as those of a test set; a
            longer text is refused for any of its lines.
        most: Answers kept of each owner; the oldest leave.

    Raises:
        AggregatorError: The folder is a file, or there is no room for an answer.

    Source:
        Hosain et al. 2025, Xolver, arXiv:2506.14234 (the episodic memory; verification, owners and the forbidden set are ours).

    Example:
        >>> import tempfile
        >>> async def right(question, answer): return True
        >>> memory = Memory(Path(tempfile.mkdtemp()))
        >>> asyncio.run(memory.learn("ada", "What is 2 + 2?", "4", right))
        True
        >>> memory.recall("ada", "What is 3 + 5?"), memory.recall("ben", "What is 3 + 5?")
        ([Solved(question='What is 2 + 2?', answer='4')], [])
    """

    def __init__(self, folder: str | Path, forbidden: Collection[str] = (), most: int = 1000) -> None:
        self.folder, self.forbidden, self.most = Path(folder), frozenset(forbidden), most
        if most < 1:
            raise AggregatorError(f"most must be at least 1, not {most}")
        if self.folder.exists() and not self.folder.is_dir():
            raise AggregatorError(f"the memory must be a folder, and {self.folder} is a file")

    def path(self, owner: str) -> Path:
        """Where the answers of an owner lie; the name tells nothing of the owner and leads nowhere else."""
        return self.folder / f"{_digest(owner)}.jsonl"

    def refuses(self, question: str) -> bool:
        """Whether a question, or a line of it, is forbidden."""
        return bool(self.forbidden) and any(question_hash(part) in self.forbidden for part in (question, *question.splitlines()))

    def solved(self, owner: str | None) -> list[Solved]:
        """What an owner's memory holds, oldest first."""
        if owner is None:
            return []
        return [entry for entry in self._read(self.path(owner)) if not self.refuses(entry.question)]

    def recall(self, owner: str | None, question: str, most: int = 3) -> list[Solved]:
        """Give the owner's solved questions that are similar to a question, the most similar first."""
        if not (entries := self.solved(owner)):
            return []
        encode = get_encoder("static")
        near = encode([entry.question for entry in entries]) @ encode([question])[0]
        order = np.argsort(-near, kind="stable")[:most]  # stable: of equals, the older first
        return [entries[at] for at in order if near[at] >= NEAR]

    async def learn(self, owner: str | None, question: str, answer: str, verify: Verify) -> bool:
        """Store an answer if it is verified; a question that is stored already is not verified again.

        Args:
            owner: Whose memory; None has none.
            question: What was asked.
            answer: What was answered.
            verify: Says whether the answer is right; asked only where it would be stored.

        Returns:
            Whether it was stored.

        Raises:
            OSError: The disk is full, or the folder may not be written.
        """
        if owner is None or not question.strip() or not answer.strip() or self.refuses(question):
            return False
        held = await asyncio.to_thread(self.solved, owner)
        if any(question_hash(entry.question) == question_hash(question) for entry in held):
            return False
        if not await verify(question, answer):
            return False
        return await asyncio.to_thread(self._append, self.path(owner), Solved(question, answer))

    def _append(self, path: Path, entry: Solved) -> bool:
        """Write one line, and let the oldest leave; the file is replaced as a whole where some must."""
        with _LOCK:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / ".lock").open("ab") as gate:
                _wait_for(gate.fileno())
                held = self._read(path)
                if any(question_hash(one.question) == question_hash(entry.question) for one in held):
                    return False  # another request was faster
                if len(held) < self.most:
                    _write(path, _line(entry), os.O_APPEND, _torn(path))
                    return True
                fresh = path.with_suffix(".new")
                _write(fresh, b"".join(map(_line, [*held, entry][-self.most :])), os.O_TRUNC)
                fresh.replace(path)
                return True

    def _read(self, path: Path) -> list[Solved]:
        """Read the newest entries; lines that are none are skipped."""
        try:
            lines = path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                row = json.loads(line)
                if isinstance(row["question"], str) and isinstance(row["answer"], str):
                    found.append(Solved(row["question"], row["answer"]))
        return found[-self.most :]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _line(entry: Solved) -> bytes:
    return json.dumps({"question": entry.question, "answer": entry.answer}).encode("ascii") + b"\n"


def _torn(path: Path) -> bytes:
    """What ends the last line where a crash did not let it end."""
    return b"" if not path.exists() or path.read_bytes()[-1:] in (b"", b"\n") else b"\n"


def _write(path: Path, data: bytes, how: int, before: bytes = b"") -> None:
    """Write to the disk in one call, so that no other line comes in between."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
    try:
        if os.write(file, before + data) < len(before + data):
            raise OSError(f"{path} could not be written whole")
        os.fsync(file)
    finally:
        os.close(file)


def _wait_for(file: int) -> None:
    """Wait until no other process writes; the lock goes with the file."""
    try:
        import fcntl
    except ImportError:  # Windows, where only the client is offered
        return
    fcntl.flock(file, fcntl.LOCK_EX)
