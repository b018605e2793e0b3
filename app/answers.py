"""Turns of a conversation, with what one can do with each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import streamlit as st

from app import session
from app.harmless import label
from app.panels import show_account, show_degraded, show_text
from app.turns import Turn, Vote, sides, trimmed, voted, worth
from counterpoint import CounterpointError

Change = Callable[[int, Turn], None]


def show_question(turn: Turn, at: int, resend: Callable[[int, str], None], busy: bool) -> None:
    """Show a question, which can be edited and sent again."""
    key = _key(turn, at)
    with st.chat_message("user"):
        if st.session_state.get("editing") == key and not busy:
            with st.form(f"edit-{key}", border=False):
                text = st.text_area("Edit the question", turn.content, key=f"text-{key}")
                st.caption("What came after it is left out when it is sent again.")
                with st.container(horizontal=True):
                    send = st.form_submit_button("Send again")
                    cancel = st.form_submit_button("Cancel")
            if send and text.strip():
                resend(at, text)
                st.rerun()
            if cancel:
                del st.session_state["editing"]
                st.rerun()
            return
        show_text(turn.content)
        if not busy:
            st.button("Edit", icon=":material/edit:", key=f"edit-{key}", type="tertiary", on_click=_begin_edit, args=(key,))


def _begin_edit(key: str) -> None:
    st.session_state.editing = key


def _key(turn: Turn, at: int) -> str:
    return f"{st.session_state.board.talk.id}-{at}-{turn.id or ''}"


def show_answer(turn: Turn, at: int, last: bool, regenerate: Callable[[int], None] | None, change: Change) -> None:
    """Show an answer, how it came about, and what one can do with it."""
    with st.chat_message("assistant"):
        if turn.rival is not None:
            _show_two(turn, at, change)
        else:
            _show_account(turn, at, last, change)
            show_text(turn.content)
            if turn.account is not None:
                show_degraded(turn.account)
            if turn.stopped:
                st.caption("Stopped here")
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            if turn.id is not None and turn.rival is None:
                _show_feedback(turn.id, _key(turn, at))
            if not _hidden(turn):
                with st.popover("Copy", icon=":material/content_copy:", type="tertiary"):
                    st.code(turn.content, language=None, wrap_lines=True)
            if regenerate is not None:
                st.button(
                    "Regenerate",
                    icon=":material/refresh:",
                    type="tertiary",
                    key=f"regenerate-{_key(turn, at)}",
                    on_click=regenerate,
                    args=(at,),
                )


def _show_account(turn: Turn, at: int, last: bool, change: Change) -> None:
    if turn.account is not None:
        with st.expander("How this answer came about", expanded=last, key=f"account-{_key(turn, at)}"):
            show_account(turn.account, turn.content)
    elif turn.id is not None and not turn.stopped:
        st.button("How this answer came about", key=f"trace-{_key(turn, at)}", type="tertiary", on_click=_fetch, args=(turn, at, change))
        if (missing := st.session_state.get("no_trace", {}).get(turn.id)) is not None:
            st.text(missing)


def _fetch(turn: Turn, at: int, change: Change) -> None:
    """Fetch an answer's account from the endpoint."""
    assert turn.id is not None
    try:
        change(at, replace(turn, account=trimmed(session.client().trace(turn.id).explanation)))
    except CounterpointError as error:
        st.session_state.no_trace = {turn.id: str(error)}


def _hidden(turn: Turn) -> bool:
    """Whether it is hidden who is who."""
    return turn.rival is not None and turn.blind and turn.vote is None


def _show_two(turn: Turn, at: int, change: Change) -> None:
    hidden = _hidden(turn)
    pair = sides(turn)
    for letter, column, side in zip("AB", st.columns(2), pair, strict=True):
        with column, st.container(border=True):
            better = " · found better" if turn.vote not in (None, "tie") and side is turn else ""
            st.markdown(f"**{letter if hidden else label(side.author or '')}**{better}")
            show_text(side.content)
            if side.stopped:
                st.caption("Stopped here")
            if side.account is not None and not hidden:
                with st.expander("How it came about"):
                    show_account(side.account, side.content)
    if turn.vote is None:
        st.caption("Which is better? The better one goes on in the conversation.")
        mixture_left = not turn.swapped
        with st.container(horizontal=True):
            for name, left in (("A" if hidden else "Left", True), ("B" if hidden else "Right", False)):
                vote: Vote = "mixture" if left == mixture_left else "rival"
                st.button(f"{name} is better", key=f"vote-{name}-{_key(turn, at)}", on_click=_vote, args=(turn, at, vote, change))
            st.button("Both alike", key=f"vote-tie-{_key(turn, at)}", on_click=_vote, args=(turn, at, "tie", change))


def _vote(turn: Turn, at: int, vote: Vote, change: Change) -> None:
    assert turn.rival is not None
    for side, score in zip((turn, turn.rival), worth(vote), strict=True):
        if side.id is not None:
            _send(side.id, score, f"beside another: {vote}")
    change(at, voted(turn, vote))


def _show_feedback(id: str, key: str) -> None:
    """Take thumbs, and a comment to them."""
    sent: dict[str, str] = st.session_state.setdefault("sent", {})
    st.feedback("thumbs", key=f"thumbs-{key}", on_change=_thumb, args=(id, key))
    with st.popover("Comment", icon=":material/comment:", type="tertiary"), st.form(f"comment-{key}", border=False, clear_on_submit=True):
        comment = st.text_area("What was right or wrong?", key=f"words-{key}", max_chars=2000)
        if st.form_submit_button("Send") and comment.strip():
            thumb = st.session_state.get(f"thumbs-{key}")
            _send(id, 0.5 if thumb is None else float(thumb), comment.strip())
    if id in sent:
        st.caption(sent[id])


def _thumb(id: str, key: str) -> None:
    thumb = st.session_state.get(f"thumbs-{key}")
    if thumb is not None:
        _send(id, float(thumb), None)


def _send(id: str, score: float, comment: str | None) -> None:
    sent: dict[str, str] = st.session_state.setdefault("sent", {})
    try:
        came = session.client().feedback(id, score, comment)
        sent[id] = f"{'Comment' if comment else 'Feedback'} {'kept' if came.kept else 'taken'}"
    except CounterpointError as error:
        sent[id] = "Feedback could not be kept" if "trace" in str(error) else f"No feedback: {error}"
    for old in [*sent][:-100]:
        del sent[old]
