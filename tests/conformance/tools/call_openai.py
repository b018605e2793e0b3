"""Have a tool called through OpenAI's client, whole and streamed, and send its result."""

import json
import sys

import openai

url, model, question = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", max_retries=0)
weather = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}
asked = {
    "model": model,
    "messages": [{"role": "user", "content": question}],
    "tools": [{"type": "function", "function": weather}],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
}


def plain(choice):
    """What a choice calls, and why it ended."""
    calls = [[call.function.name, json.loads(call.function.arguments)] for call in choice.message.tool_calls]
    return {"calls": calls, "finish": choice.finish_reason}


whole = client.chat.completions.create(**asked).choices[0]
with client.chat.completions.stream(**asked) as stream:
    streamed = stream.get_final_completion().choices[0]
result = {"role": "tool", "tool_call_id": whole.message.tool_calls[0].id, "content": "It rains."}
after = client.chat.completions.create(**asked | {"messages": [*asked["messages"], whole.message.model_dump(), result]})
json.dump({"whole": plain(whole), "streamed": plain(streamed), "after": after.choices[0].message.content}, sys.stdout)
