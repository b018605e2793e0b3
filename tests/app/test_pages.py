import time
from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

Shown = Callable[..., AppTest]


def asked(app: AppTest, question: str) -> AppTest:
    app.chat_input[0].set_value(question).run()
    for _ in range(200):
        if not app.session_state["board"].under_way:
            return app.run()
        time.sleep(0.05)
        app.run()
    raise AssertionError("no answer came")


def on(app: AppTest, page: str) -> AppTest:
    """Goes to another page, as a link would."""
    from streamlit.util import calc_hash

    app._page_hash = calc_hash("" if page == "chat" else page)
    return app.run()


def texts(elements: Any) -> str:
    return "\n".join(str(element.value) for element in elements)


def test_a_preset_sets_the_sidebar_and_the_question_goes_by_it(shown: Shown) -> None:
    app = shown()
    app.selectbox(key="preset").set_value("Three opinions").run()
    assert (app.selectbox(key="set_k").value, app.selectbox(key="set_aggregator").value) == (3, "weighted")
    app.multiselect(key="set_off").set_value(["rumour"]).run()
    asked(app, "capital")
    turn = app.session_state["board"].talk.turns[-1]
    assert (turn.account.route.experts, turn.account.aggregator) == (("atlas", "globe"), "weighted")
    app.text_input(key="preset_name").set_value("Mine").run()
    assert app.session_state["presets"]["Mine"].off == ("rumour",)
    assert not app.exception


def test_settings_outlive_a_look_at_another_page(shown: Shown) -> None:
    app = shown()
    app.selectbox(key="set_k").set_value(2).run()
    on(app, "pool")
    assert app.title[0].value == "Pool"
    on(app, "chat")
    assert app.selectbox(key="set_k").value == 2


def test_the_pools_page_tells_of_each_expert(shown: Shown) -> None:
    app = on(shown(), "pool")
    assert not app.exception
    assert [*app.dataframe[0].value["Expert"]] == ["atlas", "globe", "rumour"]
    assert {metric.label for metric in app.metric} >= {"Waiting", "Tokens/s", "Swaps", "Refused", "Awake"}


def test_the_routers_page_scores_a_text_and_moves_the_choice(shown: Shown, whole: str) -> None:
    app = on(shown(whole), "router")
    assert not app.exception
    app.text_area(key="try_text").set_value("What is 4 plus 9?")
    app.button[0].click().run()
    assert not app.exception
    assert next(iter(app.dataframe[0].value["Router"])) == "mixture"
    assert "What is 4 plus" in texts([app.dataframe[1]])
    app.slider(key="objective_weight").set_value(0.4).run()
    assert ("What is 4 plus 9?", "price", 0.4) in app.session_state["routes_seen"]
    assert not app.exception
    assert {"Where the training questions lie", "Who is good at what", "Drift"} <= {head.value for head in app.subheader}


def test_the_runs_page_shows_reports_and_compares_two(shown: Shown, whole: str) -> None:
    app = on(shown(whole), "runs")
    assert not app.exception
    assert app.selectbox(key="run").value.id in ("first", "second")
    verdicts = [table.value["Verdict"][0] for table in app.dataframe if "Verdict" in table.value]
    assert verdicts
    assert verdicts[0] == "a tie" or verdicts[0].endswith("is better")
    assert "![x]" not in texts(app.markdown)


def test_pages_of_an_endpoint_without_runs_say_so(shown: Shown) -> None:
    app = on(shown(), "runs")
    assert not app.exception
    assert "serving" in texts(app.info)
