from __future__ import annotations

from html.parser import HTMLParser

from enginery.client.show import cluster_html, count, result_html

VOID = {"br", "img"}


class Reader(HTMLParser):
    """Takes HTML apart, and fails if it is not well formed."""

    def __init__(self, text):
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def shown(thing):
    return Reader(thing if isinstance(thing, str) else thing._repr_html_())


def test_one_thing_or_several():
    assert [count(n, "engine") for n in (0, 1, 1200)] == ["0 engines", "1 engine", "1,200 engines"]


def test_a_client_shows_its_engines(client, fake):
    fake.hold = True
    client.submit(abs, -1)
    page = shown(client)
    assert "Client of cluster fake 4 engines · 1 task unfinished" in page.text
    assert "engines 0-3" in page.text
    assert {"table", "details"} <= page.tags


def test_a_client_whose_cluster_is_gone_says_so(client):
    client.close()
    assert "this client is closed" in shown(client).text


def test_views_show_whom_they_address_and_their_flags(client):
    assert "DirectView of engines 1-2" in shown(client[1:3]).text
    assert "DirectView of engine 3" in shown(client[3]).text
    assert "DirectView of all engines" in shown(client.direct_view()).text
    view = client.load_balanced_view().set_flags(retries=2, label="<b>")
    assert "LoadBalancedView of any engine" in shown(view).text
    assert "retries=2" in shown(view).text
    assert "label='<b>'" in shown(view).text, "what a user says is text, never tags"


def test_a_result_shows_how_far_it_is(client, fake):
    fake.hold = True
    result = client.submit(abs, -1)
    assert "AsyncResult" in shown(result_html(result)).text
    assert "pending" in shown(result_html(result)).text
    fake.run_held()
    result.get()
    assert "done" in shown(result_html(result)).text


def test_a_result_of_several_has_a_bar(client):
    result = client[:].apply_async(abs, -1)
    result.get()
    page = shown(result_html(result))
    assert "4 of 4" in page.text
    assert "progress" in page.tags


def test_a_failure_is_named(client):
    result = client.submit(int, "<x>")
    result.wait()
    assert "ValueError: invalid literal for int() with base 10: '<x>'" in shown(result_html(result)).text


def test_a_cluster_that_is_not_started_says_how():
    assert (
        "Cluster mine 8 engines · not running; start() starts it"
        in shown(cluster_html("mine", 8, None, running=False)).text
    )
