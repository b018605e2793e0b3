"""The chat's sidebar: conversations that were kept, and what questions are asked with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from app.harmless import label
from app.history import Shelf
from app.settings import AGGREGATORS, PRESETS, Settings, saved
from counterpoint import CounterpointError

AS_IS = "as the mixture says"


def show_history(shelf: Shelf, note: str, current: str | None, begin: Callable[[], None], open_: Callable[[str], None]) -> None:
    """Show the conversations, with a search.

    Args:
        shelf: Where they are kept.
        note: What one should know of that place, or empty.
        current: Id of the one that is open.
        begin: Begins a new one.
        open_: Opens one by its id.
    """
    st.button("New conversation", icon=":material/add:", on_click=begin, width="stretch", key="new")
    sought = st.text_input("Search conversations", key="sought", placeholder="Search conversations", label_visibility="collapsed")
    if note:
        st.caption(note)
    try:
        found = shelf.headings(sought)
    except CounterpointError as error:
        st.text(f"Conversations cannot be listed: {error}")
        return
    if sought and not found:
        st.caption("Nothing found.")
    with st.container(height=min(44 * len(found) + 20, 260) if found else "content", border=False, gap="xxsmall", key="conversations"):
        for heading in found:
            kind = "secondary" if heading.id == current else "tertiary"
            title = label(heading.title, 34) or "Untitled"
            st.button(title, key=f"open-{heading.id}", type=kind, on_click=open_, args=(heading.id,))  # type: ignore[arg-type]


def _seed(settings: Settings) -> None:
    """Put settings into the widgets."""
    state = st.session_state
    state.set_k, state.set_aggregator, state.set_temperature = settings.k or 0, settings.aggregator or "", settings.temperature
    state.set_budget, state.set_latency, state.set_off = settings.budget_usd, settings.max_latency_s, list(settings.off)
    state.set_first = settings.primary_first
    weights = dict(settings.objective)
    state.set_price, state.set_slow = weights.get("price", 0.0), weights.get("latency", 0.0)


def _choose() -> None:
    presets = PRESETS | st.session_state.get("presets", {})
    if (chosen := presets.get(st.session_state.get("preset"))) is not None:
        st.session_state.settings = chosen
        _seed(chosen)


def _save() -> None:
    presets = saved(st.session_state.get("presets", {}), st.session_state.get("preset_name", ""), st.session_state.settings)
    st.session_state.presets, st.session_state.preset_name = presets, ""


def show_settings(experts: list[str]) -> Settings:
    """Show what questions are asked with, and give it."""
    state: Any = st.session_state
    if "settings" not in state:
        state.settings = Settings()
    if "set_k" not in state:  # the widgets' own state goes when another page is shown
        _seed(state.settings)
    known = experts or state.set_off  # an endpoint that does not answer tells of nobody, and switches nobody on
    state.set_off = [name for name in state.set_off if name in known]
    with st.expander("Settings", icon=":material/tune:"):
        names = [*PRESETS, *state.get("presets", {})]
        st.selectbox("Preset", names, key="preset", index=None, placeholder="Choose a preset", on_change=_choose)
        k = st.selectbox("Experts to ask", [0, 1, 2, 3, 4, 5, 6], format_func=lambda n: str(n or AS_IS), key="set_k")
        kinds = ["", *AGGREGATORS]
        aggregator = st.selectbox("Aggregator", kinds, format_func=lambda kind: kind or "the mixture's own", key="set_aggregator")
        off = st.multiselect("Experts that are off", known, key="set_off", placeholder="all are on")
        temperature = st.number_input("Temperature", 0.0, 2.0, None, 0.1, key="set_temperature", placeholder="the experts' own")
        budget = st.number_input("Budget, US dollars", 0.0, None, None, 0.001, "%.4f", key="set_budget", placeholder="no limit")
        latency = st.number_input("Time limit, seconds", 0.1, None, None, 1.0, "%.1f", key="set_latency", placeholder="no limit")
        price = st.slider("Weight of the price", 0.0, 1.0, step=0.05, key="set_price", help="What the dearest expert's score loses.")
        slow = st.slider("Weight of slowness", 0.0, 1.0, step=0.05, key="set_slow", help="What the slowest expert's score loses.")
        first = st.toggle("First expert's words at once", key="set_first", help="The answer may change while it is read.")
        objective = tuple((name, weight) for name, weight in (("price", price), ("latency", slow)) if weight)
        state.settings = Settings(k or None, aggregator or None, temperature, budget or None, latency, tuple(off), objective, first)
        st.text_input("Save as preset", key="preset_name", placeholder="name of a preset", on_change=_save)
    return state.settings  # type: ignore[no-any-return]


def show_compare(experts: list[str]) -> tuple[str | None, bool]:
    """Show whether one expert is asked beside the mixture, and give its name and whether the vote is blind."""
    with st.expander("Compare", icon=":material/compare:"):
        state: Any = st.session_state
        if "blind" not in state:  # the widgets' own state goes when another page is shown
            state.rival, state.blind = state.get("compared", (None, True))
        if state.get("rival") not in experts:
            state.rival = None
        rival = st.pills("Beside the mixture, ask", experts, key="rival")
        blind = st.toggle("Hide who is who until I vote", key="blind", disabled=not rival)
        state.compared = (rival, blind)
    return rival, blind
