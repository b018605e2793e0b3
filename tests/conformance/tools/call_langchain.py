"""Have a tool called through LangChain's ChatOpenAI, whole and streamed, and send its result."""

import json
import sys

from langchain_core.messages import ToolMessage
from langchain_openai import ChatOpenAI


def weather(city: str) -> str:
    """Tells the weather of a city."""
    return f"It rains in {city}."


def plain(message):
    """What a message calls, and why it ended."""
    return {"calls": [[call["name"], call["args"]] for call in message.tool_calls], "finish": message.response_metadata["finish_reason"]}


url, model, question = sys.argv[1:]
chat = ChatOpenAI(model=model, base_url=f"{url}/v1", max_retries=0).bind_tools([weather], parallel_tool_calls=False)

whole = chat.invoke(question)
chunks = list(chat.stream(question))
streamed = chunks[0]
for chunk in chunks[1:]:
    streamed += chunk
after = chat.invoke([("user", question), whole, ToolMessage("It rains.", tool_call_id=whole.tool_calls[0]["id"])])
json.dump({"whole": plain(whole), "streamed": plain(streamed), "after": after.content}, sys.stdout)
