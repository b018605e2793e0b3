"""Ask by LangChain's ChatOpenAI for an object and for log-probabilities."""

import json
import sys

from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Capital(BaseModel):
    """A country's capital."""

    country: str
    capital: str


url, model, question = sys.argv[1:]
chat = ChatOpenAI(model=model, base_url=f"{url}/v1", temperature=0, max_tokens=64, max_retries=0)

told = chat.bind(logprobs=True, top_logprobs=2).invoke(question)
tokens = told.response_metadata["logprobs"]["content"]
out = {
    "object": chat.with_structured_output(Capital).invoke(question).model_dump(),
    "text": told.content,
    "tokens": "".join(token["token"] for token in tokens),
    "logprobs": [[token["logprob"], *(other["logprob"] for other in token["top_logprobs"])] for token in tokens],
}
json.dump(out, sys.stdout)
