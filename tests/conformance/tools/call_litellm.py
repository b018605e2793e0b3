"""Have a tool called through LiteLLM, whole and streamed, and send its result."""

import json
import sys

import litellm

litellm.suppress_debug_info = True  # else it prints into ours
url, model, question = sys.argv[1:]
weather = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}
asked = {
    "model": f"openai/{model}",
    "api_base": f"{url}/v1",
    "messages": [{"role": "user", "content": question}],
    "tools": [{"type": "function", "function": weather}],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "num_retries": 0,
}


def plain(choice):
    """What a choice calls, and why it ended."""
    calls = [[call.function.name, json.loads(call.function.arguments)] for call in choice.message.tool_calls]
    return {"calls": calls, "finish": choice.finish_reason}


whole = litellm.completion(**asked).choices[0]
streamed = litellm.stream_chunk_builder(list(litellm.completion(**asked, stream=True))).choices[0]
result = {"role": "tool", "tool_call_id": whole.message.tool_calls[0].id, "content": "It rains."}
after = litellm.completion(**asked | {"messages": [*asked["messages"], whole.message.model_dump(), result]})
json.dump({"whole": plain(whole), "streamed": plain(streamed), "after": after.choices[0].message.content}, sys.stdout)
