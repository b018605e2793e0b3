"""The router: what it makes of a text, what it has learned, and whether today's questions are like those it learned from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import session
from app.figures import heat_map, nearest_table, question_map, routes_table, scores_table
from app.harmless import plain
from app.panels import show_route, show_trouble
from app.trouble import trouble_of
from counterpoint import CounterpointError, Route, Routers, Tried
from counterpoint.routers import Drift, Opinion

WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Weights of an objective that are shown beside each other."""


def show() -> None:
    """Show the page."""
    st.title("Router", anchor=False)
    try:
        routers: Routers = session.own("routers", lambda: session.client().routers())
    except CounterpointError as error:
        show_trouble(trouble_of(error))
        return
    if routers.note:
        st.info(plain(routers.note))
    elif routers.kind:
        members = f" of {', '.join(routers.members)}" if routers.members else ""
        questions = f"; learned from {routers.questions} questions" if routers.questions else ""
        st.caption(plain(f"{routers.name}: {routers.kind}{members}{questions}; texts are read by {routers.encoder or 'nothing'}"))
    tried = _try(routers)
    if routers.map is not None:
        st.subheader("Where the training questions lie", anchor=False)
        st.caption(
            f"{len(routers.map.points)} of {routers.map.total} {routers.map.of}; what is alike lies together. The cross is your text."
        )
        st.altair_chart(question_map(routers.map, routers.experts, tried), height=420, key="map")
    if routers.profile is not None:
        st.subheader("Who is good at what", anchor=False)
        st.caption(f"Mean quality by {routers.profile.by}, with the number of questions")
        st.altair_chart(heat_map(routers.profile), height=max(120, 34 * len(routers.profile.rows) + 50), key="profile")
    if routers.feedback is not None:
        _show_feedback(routers.feedback)
    if routers.drift is not None:
        _show_drift(routers.drift)


def _try(routers: Routers) -> Tried | None:
    """Take a text, and show what each router makes of it."""
    state: Any = st.session_state
    st.subheader("Try a text", anchor=False)
    with st.form("try", border=False):
        text = st.text_area("A question; nobody is asked", state.get("tried_text", ""), key="try_text", max_chars=20_000)
        if st.form_submit_button("See scores") and text.strip():
            state.tried_text = text
            state.pop("tried", None)
    text = state.get("tried_text", "")
    if not text:
        return None
    try:
        if "tried" not in state:
            state.tried = session.client().try_routers(text)
    except CounterpointError as error:
        show_trouble(trouble_of(error))
        return None
    tried: Tried = state.tried
    bars = {name: st.column_config.ProgressColumn(name, width="small", min_value=0, max_value=1, format="%.2f") for name in routers.experts}
    st.dataframe(scores_table(tried), hide_index=True, width="stretch", column_config=bars)
    if tried.note:
        st.caption(plain(tried.note))
    if tried.nearest:
        st.caption("The training questions next to it")
        st.dataframe(nearest_table(tried), hide_index=True, width="stretch")
    st.fragment(_show_choice)(text)
    return tried


def _show_choice(text: str) -> None:
    """Move an objective's weight, and see the choice change."""
    state: Any = st.session_state
    st.subheader("Quality against price and time", anchor=False)
    what = (
        st.segmented_control("What a score is weighed against", ["price", "latency", "size"], default="price", key="objective_of")
        or "price"
    )
    weight = st.slider(
        "Weight", 0.0, 1.0, 0.0, 0.05, key="objective_weight", help="What the largest price (time, size) takes from a score."
    )
    try:
        show_route(_route(text, what, weight))
        with st.expander("At every weight"):
            st.dataframe(routes_table({at: _route(text, what, at) for at in WEIGHTS}), hide_index=True, width="stretch")
    except CounterpointError as error:
        show_trouble(trouble_of(error))
    state.routes_seen = dict([*state.get("routes_seen", {}).items()][-200:])


def _route(text: str, what: str, weight: float) -> Route:
    """Ask for a route, once for each text and weight."""
    seen: dict[Any, Route] = st.session_state.setdefault("routes_seen", {})
    if (text, what, weight) not in seen:
        seen[text, what, weight] = session.client().route(text, objective={what: weight})
    return seen[text, what, weight]


def _show_feedback(feedback: Mapping[str, Opinion]) -> None:
    """Show what people thought of the answers."""
    st.subheader("Feedback", anchor=False)
    if not feedback:
        st.caption("Nobody has said yet what an answer was worth.")
        return
    rows = [{"First choice": name, "Answers": each.answers, "Thought well of": f"{each.mean:.0%}"} for name, each in feedback.items()]
    st.dataframe(rows, hide_index=True, width="stretch")


def _show_drift(drift: Drift) -> None:
    """Show whether today's questions are like the training questions."""
    st.subheader("Drift", anchor=False)
    if drift.note:
        st.caption(plain(drift.note))
    st.caption(f"By the last {drift.questions} questions")
    with st.container(horizontal=True):
        if drift.told_apart is not None:
            beyond = drift.chance is not None and drift.told_apart > drift.chance
            st.metric("New told from old", f"{drift.told_apart:.2f}", "more than chance" if beyond else "chance", "off", border=True)
        if drift.moved is not None:
            st.metric("Changed hands", f"{drift.moved:.0%}", border=True)
        for when in ("before", "now"):
            if (confidence := drift.confidence.get(when)) is not None:
                st.metric(f"Confidence, {when}", f"{confidence:.2f}", border=True)
    shares = {when: each for when, each in drift.shares.items() if each}
    names = sorted({name for each in shares.values() for name in each})
    if names:
        rows = [{"First choice": name, **{when: f"{each.get(name, 0):.0%}" for when, each in shares.items()}} for name in names]
        st.dataframe(rows, hide_index=True, width="stretch")
