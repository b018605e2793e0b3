"""Ask by LiteLLM: whole, streamed, once more, and wrongly."""

import importlib.metadata
import json
import sys

import litellm

litellm.suppress_debug_info = True  # else it prints into ours
url, model, question = sys.argv[1:]
asked = {
    "model": f"openai/{model}",
    "api_base": f"{url}/v1",
    "messages": [{"role": "user", "content": question}],
    "temperature": 0,
    "max_tokens": 24,
    "num_retries": 0,
}

whole = litellm.completion(**asked)
chunks = list(litellm.completion(**asked, stream=True, stream_options={"include_usage": True}))
streamed = [chunk.choices[0] for chunk in chunks if chunk.choices]


def failure(**changes):
    """Names of the error of a request that cannot be answered, and of what it is a kind of."""
    try:
        litellm.completion(**asked | changes)
    except Exception as error:
        return [kind.__name__ for kind in type(error).__mro__]
    return []


history = [*asked["messages"], whole.choices[0].message.model_dump(), {"role": "user", "content": question}]
out = {
    "version": importlib.metadata.version("litellm"),
    "text": whole.choices[0].message.content,
    "finish": whole.choices[0].finish_reason,
    "usage": whole.usage.model_dump(),
    "streamed_text": "".join(choice.delta.content or "" for choice in streamed),
    "streamed_finish": [choice.finish_reason for choice in streamed if choice.finish_reason],
    "streamed_usage": next(chunk.usage for chunk in reversed(chunks) if getattr(chunk, "usage", None)).model_dump(),
    "again": litellm.completion(**asked | {"messages": history}).usage.prompt_tokens,
    "errors": {
        "key": failure(api_key="cp-wrong"),
        "model": failure(model="openai/nobody"),
        "length": failure(messages=[{"role": "user", "content": "word " * 8000}]),
    },
}
json.dump(out, sys.stdout)
