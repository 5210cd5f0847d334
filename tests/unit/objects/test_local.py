"""The store of a host as its users see it: against one that is a thread."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings

import pytest
from enginery.errors import ObjectLost, ObjectStoreFull
from enginery.objects import layout, local, packing
from enginery.objects.local import LocalStore, StoreGoneError
from enginery.pickles import dumps, loads_mapped
from enginery.wire import objects as o

from helpers import wait_until
from store_fakes import FakeStore

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there are stores on Linux only")

VALUE = bytes(2 << 20)


@pytest.fixture
def fake(tmp_path):
    store = FakeStore(tmp_path)
    yield store
    store.close()


@pytest.fixture
def store(fake):
    store = LocalStore(fake.path, b"e1")
    yield store
    store.close()


def make(store, value=VALUE):
    info = store.make(*dumps(value, pieces=True))
    store.claim()
    return info


def read(store, info):
    return loads_mapped(*store.open(info))


def heard(fake, *kinds):
    """Wait until exactly these were heard, the hello excepted."""
    wait_until(lambda: fake.kinds()[1:] == list(kinds), f"exactly {kinds} to be heard", 5)


# --------------------------------------------------------------------------------------------------- making and using


def test_a_value_is_written_once_and_mapped(fake, store):
    info = make(store)
    assert fake.files() == [o.file_name(info.id)]
    assert (fake.folder / fake.files()[0]).stat().st_size == info.nbytes
    assert read(store, info) == VALUE
    heard(fake, "Reserve", "Sealed", "Used")


def test_large_values_are_objects_and_small_ones_are_not(fake, store):
    assert store.pack(*dumps(bytes(1 << 19))) is None
    reference, info = store.pack(*dumps(VALUE))
    assert o.find_reference(reference) == info
    assert not store.unclaimed


def test_a_small_value_can_be_kept(store):
    _, info = store.pack(*dumps("small"), keep=True)
    assert read(store, info) == "small"


def test_the_store_is_not_asked_about_small_values(fake, store):
    assert not store.is_worth(1000)
    assert not fake.heard
    assert store.is_worth(1 << 20)
    assert not store.is_worth((1 << 20) - 1)


def test_what_is_elsewhere_is_asked_for(fake, store, tmp_path):
    info = make(store)
    path = tmp_path / "on-disk"
    (fake.folder / o.file_name(info.id)).rename(path)
    fake.there[info.id] = str(path), ""
    assert read(store, info) == VALUE


def test_what_is_nowhere_is_lost(store):
    with pytest.raises(ObjectLost, match="nobody has it"):
        store.open(o.ObjectInfo(b"x" * o.ID_BYTES, 100))


def test_what_moves_all_the_time_is_given_up(fake, store, tmp_path):
    info = o.ObjectInfo(b"x" * o.ID_BYTES, 100)
    fake.there[info.id] = str(tmp_path / "gone"), ""
    with pytest.raises(ObjectLost, match="too fast"):
        store.open(info)


def test_a_file_that_is_not_whole_is_not_used(fake, store):
    info = make(store)
    (fake.folder / o.file_name(info.id)).write_bytes(b"part")
    with pytest.raises(ObjectLost, match="nobody has it"):
        store.open(info)


def test_a_damaged_file_is_told(fake, store):
    info = make(store)
    (fake.folder / o.file_name(info.id)).write_bytes(bytes(info.nbytes - 4) + b"oops")
    with pytest.raises(ObjectLost, match="damaged"):
        store.open(info)


# ------------------------------------------------------------------------------------------------------------ no room


def test_without_room_a_value_goes_in_frames_with_one_warning(fake, store):
    fake.error = "there is no room"
    with pytest.warns(UserWarning, match="there is no room; it goes through the controller"):
        assert store.pack(*dumps(VALUE)) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.pack(*dumps(VALUE)) is None


def test_without_room_what_is_too_large_for_frames_is_an_error(fake, store, monkeypatch):
    fake.error = "there is no room"
    monkeypatch.setattr(packing, "FRAMES_MAX", 1 << 20)
    with pytest.raises(ObjectStoreFull, match="there is no room"):
        store.pack(*dumps(VALUE))
    with pytest.raises(ObjectStoreFull):
        store.pack(*dumps("small"), keep=True)


def test_a_full_place_is_said_and_another_is_used(fake, store, tmp_path):
    fake.places = [tmp_path / "not-there"]
    assert read(store, make(store)) == VALUE
    heard(fake, "Reserve", "Abandoned", "Reserve", "Sealed", "Used")
    assert [message.full for message in fake.heard if isinstance(message, o.Reserve)] == [False, True]


def test_two_full_places_are_an_error(fake, store, tmp_path):
    fake.places = [tmp_path / "not-there", tmp_path / "not-there-either"]
    with pytest.raises(ObjectStoreFull, match=r"2,097,1.. bytes cannot be stored"):
        make(store)
    heard(fake, "Reserve", "Abandoned", "Reserve", "Abandoned")
    assert not store.unclaimed


# ----------------------------------------------------------------------------------------------------------- no store


def test_without_a_path_there_is_no_store():
    store = LocalStore(None, b"e1")
    assert not store.connect()
    assert store.pack(*dumps(VALUE)) is None
    with pytest.raises(ObjectStoreFull, match="no nanny on its host"):
        store.pack(*dumps(VALUE), keep=True)
    with pytest.raises(StoreGoneError, match="no nanny on its host"):
        store.open(o.ObjectInfo(b"x" * o.ID_BYTES, 100))


def test_a_store_that_is_not_there_is_not_asked_again(tmp_path):
    store = LocalStore(str(tmp_path / "store.sock"), b"e1")
    assert store.pack(*dumps(VALUE)) is None
    assert "cannot be used" in store.failure
    assert not store.connect()


def test_a_refusal_is_told(fake, store):
    fake.refusal = "another version"
    assert store.pack(*dumps(VALUE)) is None
    assert store.failure == "the store of this host cannot be used: another version"


def test_when_the_store_ends_values_go_in_frames_and_what_is_in_memory_is_read(fake, store):
    info = make(store)
    fake.close()
    assert store.pack(*dumps(VALUE)) is None
    assert "has ended" in store.failure
    assert read(store, info) == VALUE


def test_who_waits_is_told_when_the_store_ends(fake, store):
    fake.holding = ("Want",)
    wait = threading.Timer(0.2, fake.close)
    wait.start()
    with pytest.raises(StoreGoneError, match="has ended"):
        store.open(o.ObjectInfo(b"x" * o.ID_BYTES, 100))


def test_a_store_that_does_not_answer_is_not_waited_for(fake, store, monkeypatch):
    fake.holding = ("Reserve",)
    monkeypatch.setattr(local, "ROOM_S", 0.1)
    with pytest.warns(UserWarning, match="has found no room for a value in 0 s; it goes through"):
        assert store.pack(*dumps(VALUE)) is None
    fake.holding = ()
    fake.let_go()
    make(store)  # and comes upon the late answer, whose room it gives back
    heard(fake, "Reserve", "Reserve", "Abandoned", "Sealed")


def test_after_its_end_nothing_is_made(fake, store):
    make(store)
    store.close()
    assert store.pack(*dumps(VALUE)) is None
    wait_until(lambda: fake.connections[0].fileno() >= 0, "the store to be left", 5)


def test_a_forked_copy_reads_and_does_not_speak(fake, store):
    info = make(store)
    said = len(fake.heard)
    pid = os.fork()
    if not pid:
        right = read(store, info) == VALUE and store.pack(*dumps(VALUE)) is None
        store.close()
        os._exit(0 if right else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(fake.connections) == 1
    make(store)
    heard(fake, "Reserve", "Sealed", "Reserve", "Sealed")
    assert said <= len(fake.heard)


# -------------------------------------------------------------------------------------------------------- many threads


def test_a_thread_that_waits_for_an_object_does_not_keep_others_from_making(fake, store):
    fake.holding = ("Want",)
    info = o.ObjectInfo(b"x" * o.ID_BYTES, 100)
    lost = []

    def use():
        try:
            store.open(info)
        except ObjectLost as error:
            lost.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    wait_until(lambda: fake.held, "it to be wanted", 5)
    assert read(store, make(store)) == VALUE
    fake.let_go()
    thread.join(5)
    assert len(lost) == 1


def test_many_threads_get_their_own_answers(fake, store, tmp_path):
    wrong = []

    def work(number):
        for turn in range(20):
            value = bytes([number, turn]) * (1 << 16)
            info = make(store, value)
            path = tmp_path / f"{number}-{turn}"
            (fake.folder / o.file_name(info.id)).rename(path)
            fake.there[info.id] = str(path), ""
            if read(store, info) != value:
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert not wrong
    assert not store.unclaimed
    assert not store._awaited


# --------------------------------------------------------------------------------------------------------- interrupts


def test_an_interrupted_wait_ends_at_once_and_the_next_answer_is_right(fake, store):
    make(store)
    fake.holding = ("Want",)
    timer = threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        store.open(o.ObjectInfo(b"x" * o.ID_BYTES, 100))
    fake.holding = ()
    fake.let_go()
    with pytest.raises(ObjectLost):
        store.open(o.ObjectInfo(b"y" * o.ID_BYTES, 100))


class Interrupted(BaseException):
    """Stands for KeyboardInterrupt."""


def interrupted_at(step, call):
    """Call something, raising in `objects.local` or `layout` where a signal may for the `step`-th time: when a function
    begins, or one in C has returned. Return whether it got so far.
    """
    left = step
    files = {local.__file__, layout.__file__}

    def profile(frame, event, _arg):
        nonlocal left
        if event in {"call", "c_return"} and frame.f_code.co_filename in files:
            left -= 1
            if left < 0:
                sys.setprofile(None)
                raise Interrupted

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        call()
    except Interrupted:
        return True
    finally:
        sys.setprofile(before)
    return False


def test_whatever_it_is_interrupted_in_nothing_is_left(fake, store):
    """Everything that was reserved is abandoned or claimed, and there is no file of what was abandoned."""
    store.connect()
    step = 0
    while interrupted_at(step, lambda: store.make(*dumps(VALUE, pieces=True))):
        store.abandon()
        step += 1
    store.claim()
    assert step > 30
    kept = make(store)
    wait_until(lambda: isinstance(fake.heard[-1], o.Sealed), "the last word", 5)
    reserved = sum(isinstance(message, o.Reserve) for message in fake.heard)
    gone = {message.object for message in fake.heard if isinstance(message, o.Abandoned)}
    assert len(fake.files()) == 2
    assert o.file_name(kept.id) in fake.files()
    assert len(gone) == reserved - 2
    assert not store._awaited
