"""OpenAI's own client against a running endpoint that wants keys."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml
from pydantic import BaseModel

from serving.keys import Keys
from serving.store import Store

pytestmark = pytest.mark.slow
HELLO = [{"role": "user", "content": "What is the capital of France?"}]


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of an endpoint that wants keys, and a key's secret."""
    folder, at = tmp_path_factory.mktemp("sdk"), port()
    url = f"sqlite:///{folder / 'store.db'}"
    script = [
        {"match": "weather", "call": {"name": "Weather", "arguments": {"city": "Paris"}}},
        {"match": "JSON", "say": '{"name": "Paris", "people": 2}'},
        {"match": "France", "say": "Paris"},
        {"match": "18 degrees", "say": "It is warm."},
        {"match": ".", "say": "unsure"},
    ]
    experts = [{"name": name, "model": "-", "engine": "scripted", "options": {"script": script}} for name in "ab"]
    serving = {"port": at, "keys": True, "store": url}
    mixture = {"version": 1, "name": "mix", "experts": experts, "aggregator": {"kind": "vote"}, "serving": serving}
    (folder / "m.yaml").write_text(yaml.safe_dump(mixture))
    with Store(url) as store:
        _, secret = Keys(store).create("sdk")
    command = [sys.executable, "-m", "serving.cli", "serve", "-c", str(folder / "m.yaml")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(480):
            assert process.poll() is None, (folder / "log").read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{at}/readyz").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.25)
        yield f"http://127.0.0.1:{at}/v1", secret
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture
def client(endpoint: tuple[str, str]) -> Any:
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=endpoint[0], api_key=endpoint[1])


def test_it_chats_in_several_choices_and_streams(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["mix", "a", "b"]
    answer = client.chat.completions.create(model="mix", messages=HELLO, n=2, extra_body={"counterpoint": {"explain": True}})
    assert [choice.message.content for choice in answer.choices] == ["Paris", "Paris"]
    assert len(answer.model_extra["counterpoint"]["choices"]) == 2
    stream = client.chat.completions.create(model="mix", messages=HELLO, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices).strip() == "Paris"
    assert chunks[-1].usage.total_tokens > 0


def test_it_completes_prompts(client: Any) -> None:
    assert client.completions.create(model="mix", prompt="France?").choices[0].text == "Paris"
    streamed = client.completions.create(model="mix", prompt="France?", stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed if chunk.choices).strip() == "Paris"


async def test_it_speaks_asyncio(endpoint: tuple[str, str]) -> None:
    openai = pytest.importorskip("openai")
    async with openai.AsyncOpenAI(base_url=endpoint[0], api_key=endpoint[1]) as client:
        answer = await client.chat.completions.create(model="a", messages=HELLO)
    assert answer.choices[0].message.content == "Paris"


class City(BaseModel):
    """What a city is."""

    name: str
    people: int


class Weather(BaseModel):
    """Tell the weather of a city."""

    city: str


def test_it_parses_answers_into_its_own_types(client: Any) -> None:
    asked = [{"role": "user", "content": "Which city, as JSON?"}]
    parsed = client.chat.completions.parse(model="mix", messages=asked, response_format=City).choices[0].message.parsed
    assert parsed == City(name="Paris", people=2)
    with client.chat.completions.stream(model="mix", messages=asked, response_format=City) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == parsed


def test_it_calls_tools_and_goes_on_with_what_they_gave(client: Any) -> None:
    openai = pytest.importorskip("openai")
    tools = [openai.pydantic_function_tool(Weather)]
    turns: list[Any] = [{"role": "user", "content": "What is the weather?"}]
    choice = client.chat.completions.parse(model="mix", messages=turns, tools=tools, tool_choice="required").choices[0]
    assert choice.finish_reason == "tool_calls"
    (called,) = choice.message.tool_calls
    assert called.function.parsed_arguments == Weather(city="Paris")
    with client.chat.completions.stream(model="mix", messages=turns, tools=tools) as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls
    assert [(call.function.name, call.function.parsed_arguments) for call in streamed] == [("Weather", Weather(city="Paris"))]
    turns += [choice.message, {"role": "tool", "tool_call_id": called.id, "content": "18 degrees"}]
    assert client.chat.completions.create(model="mix", messages=turns, tools=tools).choices[0].message.content == "It is warm."


def test_it_reads_log_probabilities(client: Any) -> None:
    told = client.chat.completions.create(model="mix", messages=HELLO, logprobs=True, top_logprobs=1).choices[0].logprobs
    assert [(one.token, one.top_logprobs[0].token) for one in told.content] == [("Paris", "Paris")]
    chunks = client.chat.completions.create(model="mix", messages=HELLO, logprobs=True, stream=True)
    streamed = [one.token for chunk in chunks for choice in chunk.choices if choice.logprobs for one in choice.logprobs.content]
    assert streamed == ["Paris"]
    assert client.completions.create(model="mix", prompt="France?", logprobs=1).choices[0].logprobs.tokens == ["Paris"]


def test_it_runs_a_batch(client: Any) -> None:
    base = {"method": "POST", "url": "/v1/chat/completions", "body": {"model": "mix", "messages": HELLO}}
    content = "\n".join(json.dumps({"custom_id": f"line-{at}", **base}) for at in range(20))
    file = client.files.create(file=("in.jsonl", content.encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"of": "mine"})
    for _ in range(200):
        if (batch := client.batches.retrieve(batch.id)).status == "completed":
            break
        time.sleep(0.1)
    assert (batch.status, batch.request_counts.completed, batch.metadata["of"]) == ("completed", 20, "mine")
    assert len(client.files.content(batch.output_file_id).text.splitlines()) == 20
    assert batch.id in [each.id for each in client.batches.list()]
    assert client.files.delete(file.id).deleted


def test_its_errors_are_the_clients_own(endpoint: tuple[str, str], client: Any) -> None:
    openai = pytest.importorskip("openai")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=endpoint[0], api_key="cp-wrong").models.list()
    with pytest.raises(openai.NotFoundError, match="no model is called 'nobody'"):
        client.chat.completions.create(model="nobody", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match=r"modalities\.1: Input should be 'text', not 'audio'"):
        client.chat.completions.create(model="mix", messages=HELLO, modalities=["text", "audio"])
