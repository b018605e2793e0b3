"""The chat: questions, answers as they come, and how they came about."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any

import streamlit as st

from app import session
from app.answers import show_answer, show_question
from app.board import Board
from app.coming import show_coming
from app.export import as_json, as_markdown, file_name
from app.harmless import label, plain
from app.history import SessionShelf
from app.panels import show_trouble
from app.sidebar import show_compare, show_history, show_settings
from app.trouble import trouble_of
from app.turns import MOST_QUESTION, Talk, Turn, before, messages
from app.underway import Question
from counterpoint import CounterpointError

SHOWN = 40
"""Turns that are shown at once; earlier ones on demand."""

EVERY_S = 0.3
"""Seconds between two looks at an answer that comes."""


def show() -> None:
    """Show the page."""
    state: Any = st.session_state
    board = _board()
    trouble = session.reached()
    shelf = session.shelf() if trouble is None else SessionShelf()
    names = session.experts() if trouble is None else []
    with st.sidebar:
        show_history(shelf, "" if trouble else shelf.note, board.talk.id, _begin, _open)
        settings = show_settings(names)
        rival, blind = show_compare(names)
    state.asking = (settings, rival, blind)
    if board.again:
        _ask(board.again)
    _show_head(board.talk)
    if trouble is not None and board.trouble is None:
        show_trouble(trouble)
    _show_turns(board)
    _show_end(board)
    if board.not_kept and trouble is None:
        st.warning("This conversation could not be kept; it is tried again with the next turn.", icon=":material/warning:")
        st.text(board.not_kept)
    if board.note:
        st.info(board.note)
    if board.next:
        _ask_next(board)
    st.chat_input("Ask the mixture", key="question", max_chars=MOST_QUESTION, disabled=board.talk.full or bool(board.next), on_submit=_take)


def _board() -> Board:
    state: Any = st.session_state
    if "board" not in state:
        state.board = Board()
    board: Board = state.board
    return board


def _take() -> None:
    """Take a question; the box stays open while an answer comes, and keeps the keyboard."""
    state: Any = st.session_state
    board, question = state.board, state.question
    if question and question.strip():
        board.next = question
        if not board.under_way:
            board.trouble = None


def _ask_next(board: Board) -> None:
    """Ask what was written, once the answer under way has ended."""
    if not board.under_way and board.trouble is None:
        _ask((*board.talk.turns, Turn("user", board.next)), of_next=True)
        st.rerun()
    st.caption(f"Asked next: {label(board.next, 120)}")
    if board.trouble is not None:
        st.button("Ask it now", key="go_on", on_click=_forgive)


def _forgive() -> None:
    _board().trouble = None


def _show_end(board: Board) -> None:
    """Show what comes, or why nothing does."""
    if board.under_way:
        st.fragment(_show_under_way, run_every=EVERY_S)()
    elif board.trouble is not None:
        show_trouble(board.trouble)
        if board.trouble.again and board.talk.turns:
            st.button("Ask again", icon=":material/refresh:", on_click=_again, key="again")
    elif board.talk.turns and board.talk.turns[-1].role == "user" and not board.next:
        st.info("Stopped before a word came.")
        st.button("Ask again", icon=":material/refresh:", on_click=_again, key="again")
    if board.talk.full:
        st.info("This conversation is full; begin a new one.")


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
            st.checkbox("Delete for good", key=f"sure-{talk.id}")
            sure = bool(st.session_state.get(f"sure-{talk.id}"))
            st.button("Delete this conversation", icon=":material/delete:", on_click=_delete, key="delete", disabled=not sure)


def _show_turns(board: Board) -> None:
    state, turns = st.session_state, board.talk.turns
    first = 0 if state.get("show_all") else max(0, len(turns) - SHOWN)
    if first:
        st.button(f"Show {first} earlier turns", key="show_all_button", on_click=lambda: state.update(show_all=True))
    busy = bool(board.under_way)
    for at, turn in enumerate(turns):
        if at < first:
            continue
        if turn.role not in ("user", "assistant"):
            st.caption(f"{label(turn.role)}: {label(turn.content, 300)}")
        elif turn.role == "user":
            show_question(turn, at, _edit, busy)
        else:
            last = at == len(turns) - 1
            show_answer(turn, at, last, _regenerate if last and not busy else None, _change)


def _show_under_way() -> None:
    """Show what comes; once all has come, make it part of the conversation."""
    board = _board()
    questions = board.under_way
    if not questions:
        return
    if all(question.progress.ended for question in questions):
        board.finish(session.mixture(), session.held())
        st.rerun()
    show_coming(questions, board.swapped, board.blind, time.monotonic())
    if st.button("Stop", icon=":material/stop_circle:", key="stop", help="End the answer; what has come stays."):
        for question in questions:
            question.stop()
        st.rerun(scope="fragment")


def _ask(turns: tuple[Turn, ...], of_next: bool = False) -> None:
    """Ask what the last turn says."""
    state: Any = st.session_state
    state.pop("editing", None)
    board, held, connect, (settings, rival, blind) = _board(), session.held(), session.connector(), state.asking
    said = messages(turns)
    questions = [Question(connect, said, settings=settings.options())]
    if rival is not None:
        questions.append(Question(connect, said, rival, settings.alone()))
    board.swapped, board.blind = rival is not None and blind and random.random() < 0.5, blind
    if of_next:
        board.next = ""
    board.ask(turns, questions, held)


def _begin() -> None:
    state: Any = st.session_state
    for name in ("editing", "show_all"):
        state.pop(name, None)
    _board().leave(session.mixture(), session.held())


def _open(id: str) -> None:
    _begin()
    board, held = _board(), session.held()
    try:
        board.talk = held.shelf().open(id)
    except CounterpointError as error:
        board.trouble = trouble_of(error)


def _rename(key: str) -> None:
    title, board, held = st.session_state[key].strip(), _board(), session.held()
    if title:
        try:
            board.talk = held.shelf().rename(board.talk, title)
        except CounterpointError as error:
            board.not_kept = str(error)


def _delete() -> None:
    board, held = _board(), session.held()
    try:
        if board.talk.id is not None:
            held.shelf().delete(board.talk.id)
    except CounterpointError as error:
        board.trouble = trouble_of(error)
    else:
        board.clear()


def _again() -> None:
    board = _board()
    at = max(at for at, turn in enumerate(board.talk.turns) if turn.role == "user")
    board.again = board.talk.turns[: at + 1]


def _regenerate(at: int) -> None:
    board = _board()
    board.again = before(board.talk.turns, at)


def _edit(at: int, text: str) -> None:
    board = _board()
    board.again = (*before(board.talk.turns, at), Turn("user", text))


def _change(at: int, turn: Turn) -> None:
    """Put another turn in a turn's place."""
    board, held = _board(), session.held()
    turns = board.talk.turns
    board.put(replace(board.talk, turns=(*turns[:at], turn, *turns[at + 1 :])), held)
