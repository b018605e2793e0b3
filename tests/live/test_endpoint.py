import re
from pathlib import Path

import httpx
import openai
import pytest

from counterpoint import AsyncCounterpoint, BadRequestError, Counterpoint
from data.skills import generate

pytestmark = pytest.mark.slow

SORT = "Sort these words alphabetically: pear, fig, plum."


def test_the_official_client_gets_an_answer_and_its_usage(live: object) -> None:
    client = openai.OpenAI(base_url=f"{live.url}/v1", api_key="none")  # type: ignore[attr-defined]
    assert {"counterpoint", "general", "words"} <= {model.id for model in client.models.list()}
    answer = client.chat.completions.create(
        model="counterpoint", messages=[{"role": "user", "content": SORT}], temperature=0, max_tokens=20
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_the_official_client_streams_the_same_answer(live: object) -> None:
    client = openai.OpenAI(base_url=f"{live.url}/v1", api_key="none")  # type: ignore[attr-defined]
    messages = [{"role": "user", "content": SORT}]
    whole = client.chat.completions.create(model="words", messages=messages, temperature=0).choices[0].message.content  # type: ignore[arg-type]
    stream = client.chat.completions.create(  # type: ignore[call-overload]
        model="words", messages=messages, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.strip() == whole
    assert chunks[-1].usage.total_tokens > 0
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] in ("stop", "length")


def test_our_client_tells_how_the_answer_came_about(live: object) -> None:
    with Counterpoint(live.url) as mixture:  # type: ignore[attr-defined]
        answer = mixture.chat(SORT, explain=True, k=2)
        assert answer.explanation is not None
        assert answer.explanation.route.experts[0] == "words"
        assert len(answer.explanation.answers) == 2
        chunks = list(mixture.stream(SORT, explain=True, k=2))
    assert chunks[0].route is not None
    assert [chunk.answer.expert for chunk in chunks if chunk.answer is not None]
    assert "".join(chunk.text for chunk in chunks).strip() == answer.text
    assert any(chunk.explanation is not None for chunk in chunks)


async def test_our_asyncio_client_does_the_same(live: object) -> None:
    async with AsyncCounterpoint(live.url) as mixture:  # type: ignore[attr-defined]
        answer = await mixture.chat(SORT)
        assert "".join([chunk.text async for chunk in mixture.stream(SORT)]).strip() == answer.text


def test_the_mixture_answers_questions_of_every_specialist(live: object) -> None:
    tasks = generate("test", 2, families=("sequences", "strings", "comparison", "extraction"))
    with Counterpoint(live.url) as mixture:  # type: ignore[attr-defined]
        primaries = {task.category: mixture.chat(task.query, explain=True).explanation.route.primary for task in tasks}  # type: ignore[union-attr]
    assert primaries == {"sequences": "numbers", "strings": "words", "comparison": "logic", "extraction": "records"}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("{", 400, "no JSON"),
        ({"model": "counterpoint", "messages": []}, 400, "messages"),
        ({"model": "nobody", "messages": [{"role": "user", "content": "hi"}]}, 404, "no model is called 'nobody'"),
        ({"model": "counterpoint", "messages": [{"role": "user", "content": " "}]}, 400, "the question is empty"),
        ({"model": "counterpoint", "messages": [{"role": "user", "content": "hi"}], "audio": {}}, 400, "audio: not supported"),
        ({"model": "counterpoint", "messages": [{"role": "user", "content": "hi"}], "tool_choice": "required"}, 400, "needs tools"),
        (
            {"model": "counterpoint", "messages": [{"role": "user", "content": "hi"}], "counterpoint": {"experts": ["x"]}},
            400,
            "no expert is called 'x'",
        ),
        ({"model": "counterpoint", "messages": [{"role": "user", "content": "a" * 100_000}]}, 400, "the context of"),
    ],
)
def test_a_bad_request_gets_an_error_of_openais_shape(http: httpx.Client, body: object, status: int, words: str) -> None:
    response = (
        http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
        if isinstance(body, str)
        else http.post("/v1/chat/completions", json=body)
    )
    assert response.status_code == status, response.text
    assert words in response.json()["error"]["message"]


def test_the_clients_errors_bear_status_and_code(live: object) -> None:
    with Counterpoint(live.url) as mixture, pytest.raises(BadRequestError) as caught:  # type: ignore[attr-defined]
        mixture.chat("a" * 100_000)
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")


def test_the_endpoint_is_healthy(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}


def test_the_readmes_example_runs(live: object) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert code
    for block in code:
        exec(compile(block.replace("http://127.0.0.1:8000", live.url), "README.md", "exec"), {})  # type: ignore[attr-defined]
