"""Batches: upload a file of requests, see how far it is, download the answers."""

from __future__ import annotations

import time

import streamlit as st

from app import session
from app.harmless import plain
from app.lines import LinesError, requests_of
from app.panels import show_trouble
from app.trouble import trouble_of
from counterpoint import Batch, CounterpointError

EVERY_S = 2.0
MOST_SHOWN = 10
MOST_DOWNLOAD = 50 * 2**20
"""Bytes of answers that the page hands on; larger files go through the client."""


def show_batches() -> None:
    """Show the key's batches, and begin new ones."""
    begun = st.session_state.setdefault("batches_begun", 0)
    with st.form("batch"):
        come = st.file_uploader(
            "Requests as lines of JSON", type=["jsonl", "txt"], key=f"batch_file_{begun}"
        )  # empty after each that began
        begin = st.form_submit_button("Start batch")
    if begin and come is None:
        st.error("Choose a file first.")
    elif begin and come is not None:
        try:
            batch = session.client().batches.create(requests_of(come.getvalue()), {"file": come.name[:100]})
            st.session_state.batches_begun = begun + 1
            st.toast(plain(f"{batch.id} has begun"))
            st.rerun()
        except LinesError as error:
            st.error(plain(str(error)))
        except CounterpointError as error:
            show_trouble(trouble_of(error))
        except ValueError as error:
            st.error(plain(str(error)))
    st.fragment(_show_list, run_every=EVERY_S)()


def _show_list() -> None:
    try:
        batches = session.client().batches.list(limit=MOST_SHOWN)
    except CounterpointError as error:
        show_trouble(trouble_of(error))
        return
    if not batches:
        st.caption("No batches yet.")
    for batch in batches:
        with st.container(border=True):
            _show_batch(batch)


def _show_batch(batch: Batch) -> None:
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(batch.created_at))
    st.markdown(f"**{plain(batch.metadata.get('file', batch.id))}** · {plain(batch.status)} · {made}")
    done = batch.completed + batch.failed
    failed = f", {batch.failed} failed" if batch.failed else ""
    st.progress(min(done / batch.total, 1.0) if batch.total else 0.0, text=f"{done} of {batch.total} requests{failed}")
    if batch.error:
        st.text(batch.error)
    with st.container(horizontal=True):
        if not batch.ended:
            st.button("Cancel", key=f"cancel-{batch.id}", on_click=_cancel, args=(batch.id,))
        for name, id in (("Answers", batch.output_file_id), ("Errors", batch.error_file_id)):
            if id is not None:
                _offer(name, id)


def _cancel(id: str) -> None:
    try:
        session.client().batches.cancel(id)
    except CounterpointError as error:
        st.toast(plain(str(error)))


def _offer(name: str, id: str) -> None:
    """Offer a file; it is fetched when it is wanted."""
    client = session.client()

    def content() -> str:
        lines, size = [], 0
        for line in client.files.lines(id):
            lines.append(line)
            size += len(line)
            if size > MOST_DOWNLOAD:
                raise CounterpointError(f"{id} is larger than the page hands on: use the client's `batches.results`")
        return "\n".join(lines) + "\n"

    st.download_button(name, content, f"{id}.jsonl", "application/jsonl", key=f"get-{id}", on_click="ignore")
