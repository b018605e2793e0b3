"""The pool: what each slot holds, who waits for whom, and what happened in the last minutes."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

from app import session
from app.figures import experts_table, newer, over_time, slots_table
from app.panels import show_trouble
from app.trouble import trouble_of
from app.wording import seconds, size
from counterpoint import CounterpointError, Pool

EVERY_S = 2.0
"""Seconds between two looks."""


def show() -> None:
    """Show the page."""
    st.title("Pool", anchor=False)
    st.toggle("Live", True, key="pool_live", help="Look again every two seconds.")
    st.fragment(_show_pool, run_every=EVERY_S if st.session_state.pool_live else None)()


def _show_pool() -> None:
    state: Any = st.session_state
    samples = state.get("pool_samples", ())
    try:
        pool = session.client().pool(since=samples[-1].at if samples else None)
    except CounterpointError as error:
        show_trouble(trouble_of(error))
        return
    state.pool_samples = samples = newer(samples, pool.samples)
    _show_figures(pool)
    st.subheader("Slots", anchor=False)
    if pool.slots:
        st.dataframe(slots_table(pool), hide_index=True, width="stretch")
    else:
        st.caption("No expert here needs a slot: all are remote, replayed or scripted.")
    if pool.cold:
        st.caption(f"On the disk only: {', '.join(pool.cold)}")
    st.subheader("Experts", anchor=False)
    st.dataframe(experts_table(pool), hide_index=True, width="stretch")
    st.subheader("The last minutes", anchor=False)
    for title, what in (("Calls that wait", "waiting"), ("Tokens per second", "tokens_per_s"), ("Swaps and refusals", "swaps")):
        st.caption(title)
        st.altair_chart(over_time(samples, what), height=180, key=f"chart-{what}")
    st.caption(f"Seen at {time.strftime('%H:%M:%S', time.localtime(pool.at))}; a sample every {pool.every_s:.0f} s")


def _show_figures(pool: Pool) -> None:
    figures = {
        "Waiting": str(sum(state.waiting for state in pool.experts.values())),
        "Tokens/s": f"{pool.tokens_per_s:.1f}",
        "Wait, median": seconds(pool.waits.p50_s),
        "Wait, 95%": seconds(pool.waits.p95_s),
        "Swaps": f"{pool.counters.get('swaps', 0):.0f}",
        "Refused": f"{pool.counters.get('refused', 0):.0f}",
        "Awake": size(pool.tiers.get("awake", 0)),
        "Asleep": size(pool.tiers.get("asleep", 0)),
    }
    with st.container(horizontal=True):
        for name, value in figures.items():
            st.metric(name, value, border=True, width=150)
