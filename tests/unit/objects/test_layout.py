import os
import pickle
from pathlib import Path

import pytest
from enginery.objects import layout, mapping


def packed(value):
    buffers = []
    payload = pickle.dumps(value, 5, buffer_callback=lambda buffer: buffers.append(buffer.raw()))
    return payload, buffers


def stored(path, payload, buffers):
    pieces, nbytes = layout.plan(payload, buffers)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    layout.write(fd, pieces)
    os.close(fd)
    assert path.stat().st_size == nbytes
    return mapping.map_private(str(path))


def test_a_value_comes_out_of_its_file_as_it_went_in(tmp_path):
    import numpy as np

    value = {"a": np.arange(1001, dtype=np.uint8), "b": [np.ones((3, 5)), "text"], "c": np.zeros(0)}
    payload, buffers = layout.read(stored(tmp_path / "o", *packed(value)))
    found = pickle.loads(payload, buffers=buffers)
    assert (found["a"] == value["a"]).all()
    assert (found["b"][0] == 1).all()
    assert found["b"][1] == "text"
    assert found["c"].shape == (0,)
    assert found["b"][0].ctypes.data % layout.ALIGNMENT == 0


def test_what_is_written_to_a_mapping_is_private(tmp_path):
    import numpy as np

    path = tmp_path / "o"
    payload, buffers = layout.read(stored(path, *packed(np.zeros(10_000))))
    array = pickle.loads(payload, buffers=buffers)
    array[:] = 7
    other, others = layout.read(mapping.map_private(str(path)))
    assert (pickle.loads(other, buffers=others) == 0).all()


def test_a_mapping_ends_with_its_last_view_and_outlives_its_file(tmp_path):
    import numpy as np

    path = tmp_path / "mapped-object"
    payload, buffers = layout.read(stored(path, *packed(np.arange(5000))))
    array = pickle.loads(payload, buffers=buffers)
    del payload, buffers
    path.unlink()
    assert array[4999] == 4999
    assert is_mapped("mapped-object")
    del array
    assert not is_mapped("mapped-object")


def is_mapped(name):
    return name in Path("/proc/self/maps").read_text()


def test_many_pieces_and_many_bytes_need_several_calls_of_the_kernel(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "WRITE_MAX", 1000)
    monkeypatch.setattr(layout, "PIECES_MAX", 3)
    buffers = [bytes([i]) * (i * 7) for i in range(100)]
    payload, found = layout.read(stored(tmp_path / "o", b"the pickle", buffers))
    assert bytes(payload) == b"the pickle"
    assert [bytes(buffer) for buffer in found] == buffers


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 100, (1 << 40).to_bytes(8, "little") * 3])
def test_a_file_that_is_no_object_is_told_from_one(content):
    with pytest.raises(ValueError, match="index"):
        layout.read(memoryview(content))


def test_an_index_that_points_outside_is_refused():
    file = bytearray(b"".join(layout.plan(b"pickle", [b"buffer"]).pieces))
    whole = bytes(file)
    for at in range(len(whole) - 12, len(whole) - 8):
        file[:] = whole
        file[at] = 0x7F
        try:
            payload, buffers = layout.read(memoryview(file))
        except ValueError:
            continue
        assert len(payload) + sum(map(len, buffers)) <= len(file)
