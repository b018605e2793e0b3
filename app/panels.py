"""The parts of the page that show how an answer comes about."""

from __future__ import annotations

import streamlit as st

from counterpoint import ExpertAnswer, Explanation, Route


def show_route(route: Route) -> None:
    """Show who is asked, with the scores as bars."""
    chosen = ", ".join(f"**{name}**" for name in route.experts)
    st.markdown(f"Asked: {chosen}")
    for name, score in sorted(route.scores.items(), key=lambda pair: -pair[1]):
        st.progress(min(max(score, 0.0), 1.0), text=f"{name}: {score:.2f} likely to be right")
    if route.reasons:
        st.caption("Nearest questions with known answers")
        for reason in route.reasons:
            st.text(reason)


def show_answers(answers: tuple[ExpertAnswer, ...]) -> None:
    """Show each expert's answer in a tab of its own; as plain text, for an expert's words are data."""
    if not answers:
        return
    for tab, answer in zip(st.tabs([answer.expert for answer in answers]), answers, strict=True):
        with tab:
            if answer.error:
                st.text(f"failed: {answer.error}")
            else:
                st.text(answer.text or "(no words)")
                st.caption(f"{answer.latency_s:.1f} s")


def show_explanation(explanation: Explanation) -> None:
    """Show the whole account of an answer."""
    show_route(explanation.route)
    show_outcome(explanation)


def show_outcome(explanation: Explanation) -> None:
    """Show what the experts said and what the aggregator made of it."""
    show_answers(explanation.answers)
    if explanation.support:
        st.caption(f"Weights ({explanation.aggregator})")
        for text, weight in explanation.support:
            st.text(f"{weight:.2f}  {text}")
    if explanation.degraded:
        st.warning("An expert failed; the others answered without it.")
