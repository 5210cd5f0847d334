"""What a front end that was loaded anew is told of all widgets."""

from __future__ import annotations

from enginery.jupyter.states import CONTROL, Control, WidgetState, control

MODEL = {"_model_name": "M", "_model_module": "mod", "_model_module_version": "2"}
REQUEST = {"content": {"data": {"method": "request_states"}}}


class Comm:
    def __init__(self):
        self.sent = []

    def on_msg(self, handler):
        self.handler = handler

    def send(self, data, buffers):
        self.sent.append((data, buffers))


class Manager:
    def __init__(self):
        self.targets = {}

    def register_target(self, name, target):
        self.targets[name] = target


def widget(**state):
    made = WidgetState()
    made.take({"state": {**MODEL, **state}}, [])
    return made


def ask(target, request=REQUEST):
    comm = Comm()
    target(comm, {})
    comm.handler(request)
    return comm.sent


def test_state_is_what_was_said_last():
    made = widget(x=1, y=2)
    made.take({"method": "update", "state": {"x": 3}}, [])
    made.take({"method": "echo_update", "state": {"y": 4}}, [])
    made.take({"method": "custom", "content": {}, "state": {"x": 9}}, [])
    made.take(None, [])
    assert made.account() == {
        "model_name": "M",
        "model_module": "mod",
        "model_module_version": "2",
        "state": {**MODEL, "x": 3, "y": 4},
    }


def test_buffers_are_replaced_with_the_value_they_are_in():
    made = widget(x={})
    made.take({"method": "update", "state": {"x": {}}, "buffer_paths": [["x", "a"], ["x", "b"]]}, [b"1", b"2"])
    made.take({"method": "update", "state": {"x": {}}, "buffer_paths": [["x", "a"]]}, [b"3"])
    assert made.buffers() == [(["x", "a"], b"3")]
    made.take({"method": "update", "state": {}, "buffer_paths": [["x"]]}, [b"4"])
    assert made.buffers() == [(["x"], b"4")]
    assert "x" not in made.account()["state"]
    made.take({"method": "update", "state": {"x": 5}}, [])
    assert made.buffers() == []


def test_what_is_no_widget_has_no_account():
    assert WidgetState().account() is None


def test_widgets_of_engines_are_added_to_those_of_the_kernel():
    def local(comm, _msg):
        comm.on_msg(lambda _: comm.send({"states": {"here": 1}, "buffer_paths": [["here"]]}, buffers=[b"h"]))

    there = widget()
    there.take({"method": "update", "state": {}, "buffer_paths": [["x"]]}, [b"t"])
    ((data, buffers),) = ask(Control(local, lambda: [("there", there), ("plain", WidgetState())]))
    assert data["method"] == "update_states"
    assert data["states"] == {"here": 1, "there": there.account()}
    assert data["buffer_paths"] == [["here"], ["there", "state", "x"]]
    assert buffers == [b"h", b"t"]


def test_only_requests_are_answered():
    assert ask(Control(None, lambda: [("there", widget())]), {"content": {"data": {"method": "other"}}}) == []


def test_the_target_is_taken_again_when_ipywidgets_has_taken_it():
    manager, states = Manager(), list
    control(manager, states)
    first = manager.targets[CONTROL]
    control(manager, states)
    assert manager.targets[CONTROL] is first
    manager.register_target(CONTROL, lambda comm, _msg: comm.on_msg(lambda _: comm.send({"states": {"here": 1}})))
    control(manager, states)
    assert ask(manager.targets[CONTROL])[0][0]["states"] == {"here": 1}
