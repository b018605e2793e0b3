"""The chat page: ask the mixture, and see who answered and why."""

from __future__ import annotations

import os
from collections.abc import Iterator

import streamlit as st
from panels import show_answers, show_explanation, show_outcome, show_route

from counterpoint import Chunk, Counterpoint, CounterpointError, ExpertAnswer, Explanation

URL = os.environ.get("COUNTERPOINT_URL", "http://127.0.0.1:8000")
MODEL = os.environ.get("COUNTERPOINT_MODEL", "counterpoint")

st.set_page_config(page_title="Counterpoint", page_icon="🎼", layout="centered")
st.title("Counterpoint")

with st.sidebar:
    st.header("Settings")
    k = st.selectbox("Experts to ask", [None, 1, 2, 3, 4, 5, 6], format_func=lambda n: str(n or "as the mixture says"), key="k")
    kinds = [None, "weighted", "vote", "fuse"]
    aggregator = st.selectbox("Aggregator", kinds, format_func=lambda kind: kind or "the mixture's own", key="aggregator")
    if st.button("New conversation"):
        st.session_state.turns = []
    st.caption(f"{MODEL} at {URL}")


def harmless(text: str) -> str:
    """Keep Markdown from loading images: their address could carry the conversation away."""
    return text.replace("![", "!\\[")


turns: list[dict[str, object]] = st.session_state.setdefault("turns", [])
for turn in turns:
    with st.chat_message(str(turn["role"])):
        st.markdown(harmless(str(turn["content"])))
        explanation = turn.get("explanation")
        if isinstance(explanation, Explanation):
            with st.expander("How this answer came about"):
                show_explanation(explanation)


def text_of(chunks: Iterator[Chunk]) -> Iterator[str]:
    """Pass on the text of an answer, and show the news of it on the way."""
    answers: list[ExpertAnswer] = []
    order: tuple[str, ...] = ()
    for chunk in chunks:
        if chunk.route is not None:
            order = chunk.route.experts
            with news.container():
                show_route(chunk.route)
        if chunk.answer is not None:
            answers.append(chunk.answer)
            answers.sort(key=lambda answer: order.index(answer.expert))  # tabs stand in the route's order, not in that of arrival
            with experts.container():
                show_answers(tuple(answers))
        if chunk.explanation is not None:
            st.session_state.explanation = chunk.explanation
            with experts.container():
                show_outcome(chunk.explanation)
        if chunk.text:
            yield harmless(chunk.text)


if question := st.chat_input("Ask the mixture"):
    turns.append({"role": "user", "content": question})
    with st.chat_message("user"):
        st.markdown(question)
    with st.chat_message("assistant"):
        st.session_state.explanation = None
        with st.status("Asking the experts", expanded=True) as status:
            news, experts = st.empty(), st.empty()
        messages = [{"role": str(turn["role"]), "content": str(turn["content"])} for turn in turns]
        try:
            with Counterpoint(URL, model=MODEL) as mixture:
                text = st.write_stream(text_of(mixture.stream(messages, k=k, aggregator=aggregator, explain=True)))
            status.update(label="How this answer came about", state="complete", expanded=False)
            turns.append({"role": "assistant", "content": text, "explanation": st.session_state.explanation})
        except CounterpointError as error:
            status.update(label="No answer", state="error", expanded=False)
            st.error(harmless(str(error)))
            turns.pop()
