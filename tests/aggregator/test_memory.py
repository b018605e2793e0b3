import asyncio
import json
from pathlib import Path

import pytest

from aggregator import AggregatorError
from aggregator.memory import Memory, Solved, question_hash


async def right(question: str, answer: str) -> bool:
    return True


async def wrong(question: str, answer: str) -> bool:
    return False


def lines(memory: Memory, owner: str) -> list[str]:
    return memory.path(owner).read_text().splitlines()


async def test_only_what_is_verified_is_stored(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    assert not await memory.learn("ada", "What is 2 + 2?", "5", wrong)
    assert await memory.learn("ada", "What is 2 + 3?", "5", right)
    assert memory.solved("ada") == [Solved("What is 2 + 3?", "5")]


async def test_the_verifier_reads_what_would_be_stored(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    async def verify(question: str, answer: str) -> bool:
        seen.append((question, answer))
        return True

    await Memory(tmp_path).learn("ada", "What is 2 + 2?", "4", verify)
    assert seen == [("What is 2 + 2?", "4")]


async def test_one_owner_never_reads_anothers(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    for at in range(4):  # interleaved
        await memory.learn("ada", f"What is {at} + 2?", "ada's", right)
        await memory.learn("ben", f"What is {at} + 2?", "ben's", right)
    for owner in ("ada", "ben"):
        assert {entry.answer for entry in memory.solved(owner)} == {f"{owner}'s"}
        assert {entry.answer for entry in memory.recall(owner, "What is 1 + 2?")} == {f"{owner}'s"}
    assert memory.recall("cid", "What is 1 + 2?") == []


async def test_who_has_no_owner_neither_stores_nor_reads(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    assert not await memory.learn(None, "What is 2 + 2?", "4", right)
    assert memory.recall(None, "What is 2 + 2?") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("owner", ["../../etc/passwd", "/root", "a/b", "", ".", "\x00", "\ud83d", "x" * 5000, "ada\nben"])
async def test_an_owners_name_leads_nowhere_else(tmp_path: Path, owner: str) -> None:
    folder = tmp_path / "memory"
    memory = Memory(folder)
    assert await memory.learn(owner, "What is 2 + 2?", "4", right)
    assert memory.solved(owner) == [Solved("What is 2 + 2?", "4")]
    assert memory.path(owner).resolve().parent == folder.resolve()
    assert [path.name for path in tmp_path.iterdir()] == ["memory"]


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        " what is the CAPITAL of france ",
        "Hello.\nWhat is the capital of France?\nBe brief.",
        "What is the capital of\u00a0France",
    ],
)
async def test_a_forbidden_question_is_never_stored(tmp_path: Path, question: str) -> None:
    asked: list[str] = []

    async def verify(question: str, answer: str) -> bool:
        asked.append(question)
        return True

    memory = Memory(tmp_path, forbidden=[question_hash("What is the capital of France?")])
    assert not await memory.learn("ada", question, "Paris", verify)
    assert not asked, "a verifier was paid for what is never stored"
    assert await memory.learn("ada", "What is the capital of Spain?", "Madrid", verify)
    stored = {question_hash(entry.question) for entry in memory.solved("ada")}
    assert stored.isdisjoint(memory.forbidden)


async def test_what_becomes_forbidden_later_is_not_read(tmp_path: Path) -> None:
    await Memory(tmp_path).learn("ada", "What is 2 + 2?", "4", right)
    assert Memory(tmp_path, forbidden=[question_hash("What is 2 + 2?")]).recall("ada", "What is 2 + 2?") == []


def test_signs_of_a_sum_count_in_a_hash() -> None:
    assert question_hash("What is 2 + 2?") != question_hash("What is 2 < 2?")
    assert question_hash("What is 2 + 2?") == question_hash("what is 2+2")


async def test_the_most_similar_come_first_and_others_not_at_all(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    for question in ("Who wrote Hamlet?", "What is 2 + 2?", "Who wrote Macbeth?", "A car drives 90 km in 3 hours. What is its speed?"):
        await memory.learn("ada", question, "x", right)
    found = [entry.question for entry in memory.recall("ada", "Who wrote Macbeth and when?")]
    assert found == ["Who wrote Macbeth?", "Who wrote Hamlet?"]
    assert len(memory.recall("ada", "Who wrote Macbeth?", most=1)) == 1


async def test_the_oldest_leave(tmp_path: Path) -> None:
    memory = Memory(tmp_path, most=3)
    for at in range(6):
        await memory.learn("ada", f"What is {at} + 2?", str(at), right)
    assert [entry.answer for entry in memory.solved("ada")] == ["3", "4", "5"]
    assert len(lines(memory, "ada")) == 3


async def test_a_question_is_stored_once(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    assert await memory.learn("ada", "What is 2 + 2?", "4", right)
    assert not await memory.learn("ada", "what is 2+2", "five", right)
    assert memory.solved("ada") == [Solved("What is 2 + 2?", "4")]


@pytest.mark.parametrize(
    "torn", [b'{"question": "Who?", "ans', b'{"question": "Who?", "answer": "Ada"}', b"\xff\xfe", b"[1]\n{}\n", b"[" * 5000]
)
async def test_a_torn_last_line_costs_no_other(tmp_path: Path, torn: bytes) -> None:
    memory = Memory(tmp_path)
    await memory.learn("ada", "What is 2 + 2?", "4", right)
    with memory.path("ada").open("ab") as file:
        file.write(torn)
    assert await memory.learn("ada", "What is 2 + 3?", "5", right)
    questions = [entry.question for entry in memory.solved("ada")]
    assert questions[0] == "What is 2 + 2?"
    assert questions[-1] == "What is 2 + 3?"


async def test_concurrent_appends_are_all_whole(tmp_path: Path) -> None:
    memories = [Memory(tmp_path), Memory(tmp_path)]
    await asyncio.gather(*(memories[at % 2].learn("ada", f"What is {at} + 2?", "x" * 9000, right) for at in range(40)))
    assert len(memories[0].solved("ada")) == 40
    assert all(json.loads(line)["answer"] == "x" * 9000 for line in lines(memories[0], "ada"))


async def test_one_question_asked_at_once_is_stored_once(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    stored = await asyncio.gather(*(memory.learn("ada", "What is 2 + 2?", "4", right) for _ in range(5)))
    assert sum(stored) == 1
    assert len(memory.solved("ada")) == 1


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(AggregatorError, match="most must be at least 1, not 0"):
        Memory(tmp_path, most=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(AggregatorError, match=r"the memory must be a folder, and .* is a file"):
        Memory(tmp_path / "file")
