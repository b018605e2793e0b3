"""Evaluation runs and their reports, two beside each other, and batches."""

from __future__ import annotations

import streamlit as st

from app import session
from app.batches import show_batches
from app.figures import differences_table, systems_table
from app.harmless import plain
from app.panels import show_text, show_trouble
from app.trouble import trouble_of
from counterpoint import BadRequestError, CounterpointError, Run

MOST_REPORT = 100_000
"""Characters of a report that are shown; the file has all."""


def show() -> None:
    """Show the page."""
    st.title("Runs", anchor=False)
    reports, compared, batches = st.tabs(["Reports", "Compare two", "Batches"])
    runs: list[Run] = []
    with reports:
        try:
            runs = [*session.client().runs.list()]
        except BadRequestError as error:
            st.info(plain(str(error)))
        except CounterpointError as error:
            show_trouble(trouble_of(error))
        else:
            if not runs:
                st.info("There are no runs yet: `counterpoint eval run` makes one.")
        for broken in (run for run in runs if run.error):
            st.text(f"{broken.id} cannot be read: {broken.error}")
        whole = [run for run in runs if run.systems]
        if whole:
            _show_run(st.selectbox("Run", whole, format_func=_title, key="run"))
    with compared:
        _show_comparison([run for run in runs if run.systems])
    with batches:
        show_batches()


def _title(run: Run) -> str:
    return f"{run.name} ({run.id}, {run.questions} questions)"


def _show_run(run: Run | None) -> None:
    """Show what a run found, and its report."""
    if run is None:
        return
    st.caption(plain(f"{', '.join(run.benchmarks)}; {run.questions} questions"))
    st.dataframe(systems_table(run), hide_index=True, width="stretch")
    try:
        whole = session.client().runs.get(run.id)
    except CounterpointError as error:
        show_trouble(trouble_of(error))
        return
    if whole.categories is not None:
        by = whole.categories
        rows = [
            {"Category": name, "Questions": by.questions[at], **dict(zip(by.systems, by.scores[at], strict=True))}
            for at, name in enumerate(by.categories)
        ]
        st.caption("Mean scores by category")
        st.dataframe(rows, hide_index=True, width="stretch")
    if whole.report:
        st.download_button("Report as Markdown", whole.report, f"{run.id}.md", "text/markdown", on_click="ignore", key="report")
        with st.expander("Report"):
            show_text(whole.report[:MOST_REPORT])


def _show_comparison(runs: list[Run]) -> None:
    """Show how two runs differ, on the questions that both have."""
    if len(runs) < 2:
        st.caption("Two runs are needed.")
        return
    a = st.selectbox("First run", runs, 0, format_func=_title, key="run_a")
    b = st.selectbox("Second run", runs, 1, format_func=_title, key="run_b")
    if a.id == b.id:
        st.caption("Choose two different runs.")
        return
    try:
        found = session.client().runs.compare(a.id, b.id)
    except CounterpointError as error:
        show_trouble(trouble_of(error))
        return
    if not found:
        st.caption("They have no system in common.")
        return
    st.dataframe(differences_table(found, a.id, b.id), hide_index=True, width="stretch")
    st.caption("Paired bootstrap over the questions that both have; a difference inside its interval is a tie.")
