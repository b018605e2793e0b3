"""Ask by OpenAI's client: whole, streamed, once more, and wrongly."""

import json
import sys

import openai

url, model, question = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", max_retries=0)
asked = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 24}

whole = client.chat.completions.create(**asked)
chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
streamed = [chunk.choices[0] for chunk in chunks if chunk.choices]


def failure(key=client.api_key, **changes):
    """Names of the error of a request that cannot be answered, and of what it is a kind of."""
    try:
        client.with_options(api_key=key).chat.completions.create(**asked | changes)
    except openai.OpenAIError as error:
        return [kind.__name__ for kind in type(error).__mro__]
    return []


history = [*asked["messages"], whole.choices[0].message.model_dump(), {"role": "user", "content": question}]
out = {
    "version": openai.__version__,
    "text": whole.choices[0].message.content,
    "finish": whole.choices[0].finish_reason,
    "usage": whole.usage.model_dump(),
    "streamed_text": "".join(choice.delta.content or "" for choice in streamed),
    "streamed_finish": [choice.finish_reason for choice in streamed if choice.finish_reason],
    "streamed_usage": chunks[-1].usage.model_dump(),
    "again": client.chat.completions.create(**asked | {"messages": history}).usage.prompt_tokens,
    "models": [each.id for each in client.models.list()],
    "errors": {
        "key": failure(key="cp-wrong"),
        "model": failure(model="nobody"),
        "length": failure(messages=[{"role": "user", "content": "word " * 8000}]),
    },
}
json.dump(out, sys.stdout)
