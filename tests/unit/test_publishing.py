from __future__ import annotations

import enginery
import pytest
from enginery import publishing


def test_outside_of_an_engine_there_is_nobody_to_publish_to():
    with pytest.raises(RuntimeError, match="no task runs here"):
        enginery.publish_data(1)


def test_the_hook_is_given_the_value():
    published = []
    publishing.set_publisher(published.append)
    try:
        enginery.publish_data({"step": 1})
    finally:
        publishing.set_publisher(None)
    assert published == [{"step": 1}]
