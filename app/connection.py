"""The endpoint in the sidebar: where it is, and the key that it may want."""

from __future__ import annotations

import os

import streamlit as st

from app import session


def show_connection() -> None:
    """Show the endpoint, and take a key; it stays in this session."""
    with st.sidebar, st.expander("Endpoint", icon=":material/key:"):
        st.text(f"{session.mixture()} at {session.address()}")
        st.text_input("API key", type="password", key="typed_key", on_change=_take, help="Where the endpoint wants one.")
        if st.session_state.get("key_refused"):
            st.caption(st.session_state.key_refused)
        elif st.session_state.get("api_key"):
            st.caption("A key was given in this session.")
        elif os.environ.get("COUNTERPOINT_API_KEY"):
            st.caption("The key of the page's environment is used.")
        st.button("Look again", on_click=session.forget, help="Ask the endpoint again who its experts are.")


def _take() -> None:
    key = st.session_state.typed_key.strip()
    st.session_state.key_refused = "" if key.isascii() and key.isprintable() else "A key has letters, digits and dashes only."
    if not st.session_state.key_refused:
        st.session_state.api_key = key
        session.forget()
