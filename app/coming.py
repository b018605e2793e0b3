"""Answers that come: who is asked, what each expert does, and the words so far."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.panels import show_answers, show_route, show_text
from app.underway import Progress, Question

CURSOR = " ▍"


def show_coming(questions: Sequence[Question], swapped: bool, blind: bool, now: float) -> None:
    """Show answers that come, two side by side.

    Args:
        questions: One question, or the mixture's and its rival's.
        swapped: Whether the rival stands on the left.
        blind: Whether it is hidden who is who.
        now: The monotonic clock.
    """
    with st.chat_message("assistant"):
        if len(questions) == 1:
            _show_one(questions[0], now)
            return
        shown = [*reversed(questions)] if swapped else [*questions]
        for at, (column, question) in enumerate(zip(st.columns(2), shown, strict=True)):
            with column, st.container(border=True):
                st.markdown(f"**{'AB'[at] if blind else question.model or 'The mixture'}**")
                st.caption(state_of(question.progress, question.began, now, blind))
                show_text(question.progress.text + ("" if question.progress.ended else CURSOR))


def _show_one(question: Question, now: float) -> None:
    progress = question.progress
    with st.expander("How this answer comes about", expanded=True, key="coming"):
        st.caption(state_of(progress, question.began, now))
        if progress.route is not None:
            show_route(progress.route, progress.pool)
            show_answers(progress.route.experts, progress.answers, "", progress.pool, live=True)
        if progress.drafts:
            st.caption(f"Went on from {len(progress.drafts)} draft{'s' if len(progress.drafts) > 1 else ''}")
    if progress.corrected:
        st.caption("The first words were taken back; this is the answer instead")
    show_text(progress.text + CURSOR)


def state_of(progress: Progress, began: float, now: float, blind: bool = False) -> str:
    """Say in a line what is going on; `blind` leaves out what tells a mixture from one expert."""
    passed = f"{max(0.0, now - began):.0f} s"
    if blind:
        return "Stopped" if progress.stopped else "Ended" if progress.ended else f"Comes · {passed}"
    if progress.ended:
        return "Stopped" if progress.stopped else f"Ended after {progress.seconds:.1f} s"
    if progress.stopped:
        return "Stopping"
    if progress.paused_until is not None:
        return f"No room, or no connection: asking again in {max(0.0, progress.paused_until - now):.0f} s · {passed}"
    if progress.route is None:
        return f"Choosing the experts · {passed}"
    if progress.text:
        return f"Writing the answer · {passed}"
    return f"{len(progress.answers)} of {len(progress.route.experts)} experts have answered · {passed}"
