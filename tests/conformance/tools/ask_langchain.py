"""Ask by LangChain's ChatOpenAI: whole, streamed, several at once, once more, and wrongly."""

import importlib.metadata
import json
import sys

from langchain_openai import ChatOpenAI

url, model, question = sys.argv[1:]
settings = {"model": model, "base_url": f"{url}/v1", "temperature": 0, "max_tokens": 24, "max_retries": 0, "stream_usage": True}
chat = ChatOpenAI(**settings)


def usage(message):
    """Usage by OpenAI's names."""
    counts = message.usage_metadata
    return {"prompt_tokens": counts["input_tokens"], "completion_tokens": counts["output_tokens"], "total_tokens": counts["total_tokens"]}


def failure(question=question, **changes):
    """Names of the error of a request that cannot be answered, and of what it is a kind of."""
    try:
        ChatOpenAI(**settings | changes).invoke(question)
    except Exception as error:
        return [kind.__name__ for kind in type(error).__mro__]
    return []


whole = chat.invoke(question)
chunks = list(chat.stream(question))
streamed = chunks[0]
for chunk in chunks[1:]:
    streamed += chunk
out = {
    "version": importlib.metadata.version("langchain-openai"),
    "text": whole.content,
    "finish": whole.response_metadata["finish_reason"],
    "usage": usage(whole),
    "streamed_text": streamed.content,
    "streamed_finish": [streamed.response_metadata["finish_reason"]],
    "streamed_usage": usage(streamed),
    "batch": [message.content for message in chat.batch([question, question])],
    "again": usage(chat.invoke([("user", question), whole, ("user", question)]))["prompt_tokens"],
    "errors": {"key": failure(api_key="cp-wrong"), "model": failure(model="nobody"), "length": failure("word " * 8000)},
}
json.dump(out, sys.stdout)
