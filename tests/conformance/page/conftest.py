from tests.app.conftest import browser, folder, mixture, served, whole
from tests.live.conftest import live as chatting

__all__ = ["browser", "chatting", "folder", "mixture", "served", "whole"]
