"""The pages: a conversation with the mixture, its pool, its router, its evaluation runs."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from app import pool_page, router_page, runs_page, talk_page
from app.connection import show_connection

page = st.navigation(
    [
        st.Page(talk_page.show, title="Chat", icon=":material/forum:", url_path="chat", default=True),
        st.Page(pool_page.show, title="Pool", icon=":material/memory:", url_path="pool"),
        st.Page(router_page.show, title="Router", icon=":material/route:", url_path="router"),
        st.Page(runs_page.show, title="Runs", icon=":material/fact_check:", url_path="runs"),
    ],
    position="top",
)
layout: Literal["centered", "wide"] = "centered" if page.url_path in ("", "chat") else "wide"  # tables want room
st.set_page_config(page_title="Counterpoint", page_icon="🎼", layout=layout, initial_sidebar_state="auto")
page.run()
show_connection()
