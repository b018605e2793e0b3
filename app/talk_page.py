"""The chat: questions, answers as they come, and how they came about."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any

import streamlit as st

from app import session
from app.answers import show_answer, show_question
from app.coming import show_coming
from app.export import as_json, as_markdown, file_name
from app.harmless import plain
from app.history import SessionShelf
from app.panels import show_trouble
from app.sidebar import show_compare, show_history, show_settings
from app.trouble import trouble_of
from app.turns import Talk, Turn, before, bounded, messages, title_of, trimmed
from app.underway import Progress, Question
from counterpoint import CounterpointError

SHOWN = 40
"""Turns that are shown at once; earlier ones on demand."""

EVERY_S = 0.3
"""Seconds between two looks at an answer that comes."""


def show() -> None:
    """Show the page."""
    state: Any = st.session_state
    state.setdefault("talk", Talk())
    trouble = session.reached()
    shelf = session.shelf() if trouble is None else SessionShelf()
    names = session.experts() if trouble is None else []
    with st.sidebar:
        show_history(shelf, "" if trouble else shelf.note, state.talk.id, _begin, _open)
        settings = show_settings(names)
        rival, blind = show_compare(names)
    state.asking = (settings, rival, blind)
    _show_head(state.talk)
    if trouble is not None and not state.get("trouble"):
        show_trouble(trouble)
    _show_turns(state.talk)
    if state.get("under_way"):
        st.fragment(_show_under_way, run_every=EVERY_S)()
    elif state.get("trouble"):
        show_trouble(state.trouble)
        if state.trouble.again and state.talk.turns:
            st.button("Ask again", icon=":material/refresh:", on_click=_again, key="again")
    elif state.talk.turns and state.talk.turns[-1].role == "user":
        st.info("Stopped before a word came.")
        st.button("Ask again", icon=":material/refresh:", on_click=_again, key="again")
    if state.talk.full:
        st.info("This conversation is full; begin a new one.")
    question = st.chat_input("Ask the mixture", key="question", disabled=bool(state.get("under_way")) or state.talk.full)
    if question and question.strip():
        _ask((*state.talk.turns, Turn("user", question)))
        st.rerun()


def _show_head(talk: Talk) -> None:
    if not talk.turns:
        st.title("Counterpoint")
        st.caption("Several LLMs behind one door: ask, and see who answered and why.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(plain(talk.title or "Conversation"), anchor=False, width="stretch")
        with st.popover("", icon=":material/more_horiz:", help="Rename, export or delete this conversation"):
            st.text_input("Title", talk.title, key=f"title-{talk.id}", max_chars=100, on_change=_rename, args=(f"title-{talk.id}",))
            st.download_button("Export as Markdown", as_markdown(talk), file_name(talk, "md"), "text/markdown", on_click="ignore")
            st.download_button("Export as JSON", as_json(talk), file_name(talk, "json"), "application/json", on_click="ignore")
            st.button("Delete this conversation", icon=":material/delete:", on_click=_delete, key="delete")


def _show_turns(talk: Talk) -> None:
    state = st.session_state
    first = 0 if state.get("show_all") else max(0, len(talk.turns) - SHOWN)
    if first:
        st.button(f"Show {first} earlier turns", key="show_all_button", on_click=lambda: state.update(show_all=True))
    busy = bool(state.get("under_way"))
    for at, turn in enumerate(talk.turns):
        if at < first:
            continue
        if turn.role == "user":
            show_question(turn, at, _edit, busy)
        else:
            last = at == len(talk.turns) - 1
            show_answer(turn, at, last, _regenerate if last and not busy else None, _change)


def _show_under_way() -> None:
    """Show what comes; once all has come, make it part of the conversation."""
    questions: list[Question] = st.session_state.get("under_way") or []
    came = [question.progress for question in questions]
    if not came:
        return
    if all(progress.ended for progress in came):
        _finish(questions)
        st.rerun()
    swapped, blind = st.session_state.get("order", (False, False))
    show_coming(questions, swapped, blind, time.monotonic())
    if st.button("Stop", icon=":material/stop_circle:", key="stop", help="End the answer; what has come stays."):
        for question in questions:
            question.stop()
        st.rerun(scope="fragment")


def _ask(turns: tuple[Turn, ...]) -> None:
    """Ask what the last turn says."""
    state: Any = st.session_state
    state.pop("trouble", None)
    state.pop("editing", None)
    state.talk = _kept(replace(state.talk, turns=bounded(turns), title=state.talk.title or title_of(turns[-1].content)))
    settings, rival, blind = state.asking
    connect, said = session.connector(), messages(turns)
    state.order = (rival is not None and blind and random.random() < 0.5, blind)
    state.under_way = [Question(connect, said, settings=settings.options()).start()]
    if rival is not None:
        state.under_way.append(Question(connect, said, rival, settings.alone()).start())


def _finish(questions: list[Question]) -> None:
    state: Any = st.session_state
    state.under_way = None
    made = [_turn(question.progress, question.model) for question in questions]
    failed = next((question.progress.error for question in questions if question.progress.error is not None), None)
    if failed is not None:
        state.trouble = trouble_of(failed)
    written = [turn for turn in made if turn.content]
    if not written:
        return
    answer = written[0]
    if len(written) == 2:
        swapped, blind = state.get("order", (False, False))
        answer = replace(replace(made[0], author=session.mixture()), rival=made[1], blind=blind, swapped=swapped)
    state.talk = _kept(replace(state.talk, turns=bounded((*state.talk.turns, answer))))


def _turn(progress: Progress, model: str | None) -> Turn:
    account = trimmed(progress.account) if progress.account is not None else None
    cut = progress.stopped or progress.error is not None
    return Turn("assistant", progress.text.strip(), progress.id or None, model, account, cut)


def _kept(talk: Talk) -> Talk:
    """Keep a conversation; where that fails it is said, and the conversation goes on."""
    try:
        return session.shelf().keep(talk)
    except CounterpointError as error:
        st.session_state.not_kept = str(error)
        return talk


def _begin() -> None:
    state: Any = st.session_state
    for question in state.get("under_way") or ():
        question.stop()
    for name in ("trouble", "under_way", "editing", "show_all"):
        state.pop(name, None)
    state.talk = Talk()


def _open(id: str) -> None:
    _begin()
    try:
        st.session_state.talk = session.shelf().open(id)
    except CounterpointError as error:
        st.session_state.trouble = trouble_of(error)


def _rename(key: str) -> None:
    title = st.session_state[key].strip()
    if title:
        st.session_state.talk = session.shelf().rename(st.session_state.talk, title)


def _delete() -> None:
    id = st.session_state.talk.id
    _begin()
    if id is not None:
        session.shelf().delete(id)


def _again() -> None:
    turns = st.session_state.talk.turns
    at = max(at for at, turn in enumerate(turns) if turn.role == "user")
    _ask(turns[: at + 1])


def _regenerate(at: int) -> None:
    _ask(before(st.session_state.talk.turns, at))


def _edit(at: int, text: str) -> None:
    _ask((*before(st.session_state.talk.turns, at), Turn("user", text)))


def _change(at: int, turn: Turn) -> None:
    """Put another turn in a turn's place."""
    turns = st.session_state.talk.turns
    st.session_state.talk = _kept(replace(st.session_state.talk, turns=(*turns[:at], turn, *turns[at + 1 :])))
