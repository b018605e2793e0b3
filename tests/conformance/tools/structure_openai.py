"""Ask by OpenAI's client for an object and for log-probabilities."""

import json
import sys

import openai
from pydantic import BaseModel


class Capital(BaseModel):
    """A country's capital."""

    country: str
    capital: str


url, model, question = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", max_retries=0)
asked = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 64}

parsed = client.chat.completions.parse(**asked, response_format=Capital).choices[0].message.parsed
told = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2).choices[0]
out = {
    "object": parsed.model_dump(),
    "text": told.message.content,
    "tokens": "".join(token.token for token in told.logprobs.content),
    "logprobs": [[token.logprob, *(other.logprob for other in token.top_logprobs)] for token in told.logprobs.content],
}
json.dump(out, sys.stdout)
