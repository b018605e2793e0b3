"""The client of asyncio against the real endpoint's routes, in this process."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from counterpoint import AsyncCounterpoint, BadRequestError, Completion, CounterpointError, ServerError, StillRunningError
from tests.serving.test_gateway import FRANCE, served
from tests.serving.test_jobs import settings


@asynccontextmanager
async def mixture(**changes: Any) -> AsyncIterator[AsyncCounterpoint]:
    async with served(**changes) as http:
        async with AsyncCounterpoint("http://127.0.0.1", model="mix", transport=http._transport) as client:
            yield client


def experts(**said: str) -> list[dict[str, Any]]:
    scripts = {name: [{"match": ".", "say": text}] for name, text in said.items()}
    return [{"name": name, "model": "-", "engine": "scripted", "options": {"script": script}} for name, script in scripts.items()]


async def test_a_route_is_told_and_options_hold() -> None:
    async with mixture() as client:
        both, one = await client.route(FRANCE), await client.route(FRANCE, k=1, exclude=["a"], budget_usd=1.0, objective={"price": 0.1})
        with pytest.raises(BadRequestError, match="no model is called 'nobody'"):
            await client.route(FRANCE, model="nobody")
    assert (both.experts, set(both.scores)) == (("a", "b"), {"a", "b"})
    assert one.experts == ("b",)


async def test_prompts_and_several_choices_are_answered_each() -> None:
    async with mixture() as client:
        one, two = await client.complete(FRANCE), await client.complete([FRANCE, "And now?"], k=1, explain=True)
        three = await client.chat(FRANCE, n=3)
    assert (one.text, one.texts) == ("Paris", ("Paris",))
    assert (two.text, two.texts) == ("Paris", ("Paris", "unsure"))
    assert [[answer.text for answer in account.answers] for account in two.explanations] == [["Paris"], ["unsure"]]
    assert three.texts == ("Paris",) * 3


async def test_an_answer_is_explained_at_once_and_later_without_texts(tmp_path: Path) -> None:
    async with mixture(serving={"store": f"sqlite:///{tmp_path / 'store.db'}"}) as client:
        account = await client.explain(FRANCE)
        answer = await client.chat(FRANCE)
        trace = await client.trace(answer.id)
        said = await client.feedback(answer.id, 1.0, "right")
        with pytest.raises(BadRequestError, match="no trace has the id") as caught:
            await client.trace("chatcmpl-nobody")
        with pytest.raises(BadRequestError, match="score"):
            await client.feedback(answer.id, 2.0)
    assert (account.aggregator, account.calls, account.support[0][0]) == ("vote", 2, "Paris")
    assert (trace.id, trace.explanation.route.experts, trace.text, trace.messages) == (answer.id, ("a", "b"), None, None)
    assert [part.text for part in trace.explanation.answers] == ["", ""]
    assert trace.explanation.support[0][1] == account.support[0][1]
    assert (said.kept, said.learned) == (True, False)
    assert caught.value.status == 404


async def test_an_endpoint_that_keeps_texts_tells_them(tmp_path: Path) -> None:
    async with mixture(serving={"store": f"sqlite:///{tmp_path / 'store.db'}", "keep_text": True}) as client:
        trace = await client.trace((await client.chat(FRANCE)).id)
    assert (trace.text, trace.messages) == ("Paris", ({"role": "user", "content": FRANCE},))


async def test_the_primarys_words_are_corrected_where_the_mixture_says_otherwise() -> None:
    async with mixture(experts=experts(a="It is 5.", b="4", c="4")) as client:
        chunks = [chunk async for chunk in client.stream("What is 2 + 2?", primary_first=True, explain=True, k=3)]
    assert "".join(chunk.text for chunk in chunks if not chunk.correction).strip() == "It is 5."
    assert "".join(chunk.text for chunk in chunks if chunk.correction).strip() == "4"
    assert chunks[0].route is not None
    assert {chunk.answer.expert for chunk in chunks if chunk.answer is not None} == {"a", "b", "c"}
    assert chunks[-1].usage is not None


async def test_a_batch_is_begun_waited_for_and_read(tmp_path: Path) -> None:
    async with mixture(**settings(f"sqlite:///{tmp_path / 'store.db'}")) as client:
        requests = [FRANCE, {"custom_id": "mine", "messages": FRANCE, "k": 1, "explain": True}, "please break", f"\u2028{FRANCE}"]
        made = await client.batches.create(requests, metadata={"of": "mine"})
        assert (made.total, made.metadata["of"], made.ended) == (4, "mine", False)
        batch = await client.batches.wait(made.id, timeout_s=20)
        results = {id: result async for id, result in client.batches.results(made.id)}
        listed = await client.batches.list()
        files = await client.files.list()
        await client.files.delete(made.input_file_id)
        with pytest.raises(BadRequestError, match="no file of yours"):
            await client.files.get(made.input_file_id)
    assert (batch.status, batch.completed, batch.failed) == ("completed", 3, 1)
    assert {id: result.text for id, result in results.items() if isinstance(result, Completion)} == dict.fromkeys(
        ("request-0", "mine", "request-3"), "Paris"
    )
    mine, broken = results["mine"], results["request-2"]
    assert isinstance(mine, Completion)
    assert mine.explanation is not None
    assert len(mine.explanation.answers) == 1
    assert isinstance(broken, ServerError)
    assert (broken.status, "told" in str(broken)) == (502, True)
    assert [each.id for each in listed] == [made.id]
    assert made.input_file_id in {file.id for file in files}


async def test_a_batch_comes_from_a_file_and_a_bad_line_is_an_error_of_its_own(tmp_path: Path) -> None:
    source = tmp_path / "asked.jsonl"
    line = {"custom_id": "one", "body": {"model": "mix", "messages": [{"role": "user", "content": FRANCE}]}}
    source.write_text(json.dumps(line) + "\n{half\n")
    async with mixture(**settings(f"sqlite:///{tmp_path / 'store.db'}")) as client:
        made = await client.batches.create(source)
        await client.batches.wait(made.id, timeout_s=20)
        results = [entry async for entry in client.batches.results(made.id)]
        name = (await client.files.get(made.input_file_id)).filename
        kept = [line async for line in client.files.lines(made.input_file_id)]
        with pytest.raises(CounterpointError, match=r"cannot read .*absent\.jsonl: No such file"):
            await client.batches.create(tmp_path / "absent.jsonl")
    assert [id for id, _ in results] == ["one", "line-2"]
    assert isinstance(results[1][1], BadRequestError)
    assert "no JSON" in str(results[1][1])
    assert (name, kept) == ("asked.jsonl", [json.dumps(line), "{half"])


async def test_a_batch_that_runs_is_not_read_and_can_be_cancelled(tmp_path: Path) -> None:
    async with mixture(**settings(f"sqlite:///{tmp_path / 'store.db'}")) as client:
        made = await client.batches.create([FRANCE, "a slow one"])
        with pytest.raises(StillRunningError, match=r"has not ended within 0\.2 s; it is in_progress") as caught:
            await client.batches.wait(made.id, timeout_s=0.2)
        with pytest.raises(StillRunningError, match="wait for it first"):
            assert [entry async for entry in client.batches.results(made.id)] == []
        await asyncio.sleep(0.5)
        gone = await client.batches.cancel(made.id)
        results = [(id, isinstance(result, Completion)) async for id, result in client.batches.results(made.id)]
    assert (caught.value.batch.id, gone.status, gone.ended) == (made.id, "cancelled", True)
    assert results == [("request-0", True)]
