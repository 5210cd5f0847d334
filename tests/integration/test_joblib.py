"""joblib, and scikit-learn with it, on engines."""

import os
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import TimeoutError as JoblibTimeout

import joblib
import numpy as np
import pandas as pd
import pytest
from enginery import Client, ControllerLost, RemoteError, SerializationError
from enginery.client.guests import joblibnames
from joblib import Parallel, delayed, parallel_config

from helpers import wait_until


@pytest.fixture(autouse=True)
def _on_engines(client):
    with parallel_config("enginery", client=client):
        yield
    wait_until(lambda: client.wait(timeout=0) and not client.status()["tasks"]["assigned"], "nothing is left running")


def here_and_there(x, seconds=0.0):
    time.sleep(seconds)
    return x, os.getpid()


def pids(client):
    return {engine["pid"] for engine in client.status()["engines"]}


# ------------------------------------------------------------------------------------------------ calls


def test_calls_run_on_engines_in_order(client):
    results = Parallel()(delayed(here_and_there)(i) for i in range(500))
    assert [x for x, _ in results] == list(range(500))
    assert {pid for _, pid in results} <= pids(client)


def test_minus_one_is_all_engines(client):
    results = Parallel(n_jobs=-1)(delayed(here_and_there)(i, 0.02) for i in range(12))
    assert {pid for _, pid in results} == pids(client)


def test_effective_n_jobs():
    count = joblib.effective_n_jobs
    assert [count(n) for n in (-1, -2, -3, -9, 1, 2, 3, 8, None)] == [3, 2, 1, 1, 1, 2, 3, 3, 1]
    with pytest.raises(ValueError, match="n_jobs is a number of jobs"):
        count(0)


def test_no_more_run_at_once_than_asked_for(tmp_path):
    def crowd(i):
        mine = tmp_path / str(i)
        mine.touch()
        time.sleep(0.02)
        most = len(list(tmp_path.iterdir()))
        mine.unlink()
        return most

    assert max(Parallel(n_jobs=2, pre_dispatch="all", batch_size=1)(delayed(crowd)(i) for i in range(10))) <= 2


def test_quick_calls_travel_in_batches(client):
    before = client.status()["tasks"]["finished"]
    assert Parallel()(delayed(abs)(-i) for i in range(2000)) == list(range(2000))
    assert client.status()["tasks"]["finished"] - before < 500


@pytest.mark.parametrize("pre_dispatch", ["all", "2*n_jobs", 1])
def test_input_is_read_as_far_ahead_as_asked(pre_dispatch):
    assert Parallel(pre_dispatch=pre_dispatch)(delayed(abs)(i) for i in iter(range(50))) == list(range(50))


def test_no_calls_at_all():
    assert Parallel()([]) == []


def test_one_job_runs_here():
    assert Parallel(n_jobs=1)([delayed(os.getpid)()]) == [os.getpid()]


def test_arrays_arrive_whole_and_writable():
    def change(array):
        array[0] = 7
        return array

    given = np.zeros(300_000)
    (back,) = Parallel(n_jobs=2)([delayed(change)(given)])
    assert back[0] == 7
    assert back.shape == given.shape
    assert given[0] == 0
    back[1] = 8


def test_a_large_argument_that_calls_share_is_in_memory_once(client, tmp_path):
    go = tmp_path / "go"

    def look(array, table, i):
        while i == 19 and not go.exists():
            time.sleep(0.01)
        array[i] += 1
        return float(array[i]), int(table["x"].iloc[i]), float(array.sum())

    array, table = np.zeros(200_000), pd.DataFrame({"x": np.arange(200_000)})
    calls = Parallel(batch_size=1, return_as="generator")(delayed(look)(array, table=table, i=i) for i in range(20))
    first = next(calls)
    if sys.platform == "linux":
        assert len(client.objects()) == 2
    go.touch()
    assert [first, *calls] == [(1, i, 1) for i in range(20)], "each has its own"
    wait_until(lambda: not [one for one in client.objects() if one.handles or one.tasks], "all is let go of")
    own = Parallel(batch_size=1, max_nbytes=None)(delayed(look)(array, table=table, i=i) for i in range(6))
    assert own == [(1, i, 1) for i in range(6)]


def test_generators():
    assert list(Parallel(return_as="generator")(delayed(abs)(-i) for i in range(20))) == list(range(20))
    unordered = Parallel(return_as="generator_unordered")(delayed(here_and_there)(i, 0.1 / (i + 1)) for i in range(6))
    assert sorted(x for x, _ in unordered) == list(range(6))


def test_two_generators_share_the_backend():
    first = Parallel(return_as="generator")(delayed(here_and_there)(i, 0.01) for i in range(30))
    second = Parallel(return_as="generator")(delayed(here_and_there)(i, 0.01) for i in range(30))
    next(first)
    with warnings.catch_warnings(record=True):  # joblib tells that results were not used
        warnings.simplefilter("always")
        del first
    assert [x for x, _ in second] == list(range(30))


def test_a_parallel_can_be_kept():
    with Parallel() as parallel:
        for _ in range(3):
            assert parallel(delayed(abs)(-i) for i in range(10)) == list(range(10))


def test_a_parallel_inside_a_call_stays_in_its_engine(client):
    def outer():
        inner = Parallel(n_jobs=2)
        return inner(delayed(os.getpid)() for _ in range(3)), os.getpid()

    for inner, pid in Parallel()(delayed(outer)() for _ in range(4)):
        assert set(inner) == {pid}
        assert pid in pids(client)


# ------------------------------------------------------------------------------------------------ errors, and the end


def test_an_error_comes_out_as_itself_and_stops_the_rest(client):
    def fail(i):
        if i == 3:
            raise KeyError("three")
        time.sleep(30)

    began = time.monotonic()
    with pytest.raises(KeyError, match="three") as caught:
        Parallel(n_jobs=3, batch_size=1)(delayed(fail)(i) for i in [3, 0, 1, 2, 4, 5])
    assert isinstance(caught.value, RemoteError)
    wait_until(lambda: client.wait(timeout=0), "the others are stopped")
    assert time.monotonic() - began < 10


def test_an_error_of_the_input_comes_out():
    def calls():
        yield delayed(abs)(1)
        raise LookupError("no more input")

    with pytest.raises(LookupError, match="no more input"):
        Parallel(batch_size=1, pre_dispatch=1)(calls())


def test_what_cannot_travel_is_an_error_at_once():
    with pytest.raises(SerializationError, match=r"is a _thread\.lock"):
        Parallel()(delayed(id)(threading.Lock()) for _ in range(3))


def test_a_time_limit_stops_what_runs():
    with pytest.raises(JoblibTimeout):
        Parallel(timeout=0.1)(delayed(time.sleep)(30) for _ in range(6))


def test_a_generator_left_early_stops_what_runs(client):
    results = Parallel(return_as="generator")(delayed(here_and_there)(i, 0.01 if i < 3 else 30) for i in range(9))
    next(results)
    with pytest.warns(UserWarning, match="cancelled"):
        del results


def test_a_client_that_is_closed_meanwhile_ends_the_call(cluster):
    with Client(cluster.name) as other, parallel_config("enginery", client=other):
        threading.Timer(0.3, other.close).start()
        with pytest.raises(ControllerLost):
            Parallel()(delayed(time.sleep)(0.2) for _ in range(60))


# ------------------------------------------------------------------------------------------------ names


def test_flags_of_a_view(client):
    view = client.load_balanced_view([0, 1]).set_flags(label="fitting")
    view.register_joblib_backend("two")
    try:
        with parallel_config("two"):
            assert joblib.effective_n_jobs(-1) == 2
            assert {pid for _, pid in Parallel()(delayed(here_and_there)(i, 0.01) for i in range(8))} <= pids(client)
        with parallel_config("two", targets=[2]) as config:
            assert (config["backend"]._view.targets, config["backend"]._view.label) == ([2], "fitting")
        with pytest.raises(TypeError, match="has no flag 'tarkets'"):
            parallel_config("two", tarkets=[2])
        assert len(Parallel(backend="two")(delayed(abs)(i) for i in range(4))) == 4
    finally:
        del joblib.parallel.BACKENDS["two"]


def test_the_name_is_known_once_there_is_a_client(cluster, monkeypatch):
    monkeypatch.delitem(joblib.parallel.BACKENDS, "enginery")
    with pytest.raises(ValueError, match="Invalid backend: enginery"):
        parallel_config("enginery")
    with Client(cluster.name) as newest, parallel_config("enginery") as config:
        assert config["backend"]._view.client is newest


def test_a_client_that_was_there_before_joblib_registers_by_hand(client, monkeypatch):
    monkeypatch.delitem(joblib.parallel.BACKENDS, "enginery")
    client.register_joblib_backend()
    with parallel_config("enginery") as config:
        assert config["backend"]._view.client is client


def test_a_name_outlives_its_client(cluster, client):
    with Client(cluster.name) as gone:
        gone.load_balanced_view().set_flags(label="mine").register_joblib_backend("handed-on")
        with parallel_config("handed-on") as config:
            assert config["backend"]._view.client is gone
    newest = Client(cluster.name)
    with parallel_config("handed-on") as config:
        assert (config["backend"]._view.client, config["backend"]._view.label) == (newest, "mine")
    with parallel_config("handed-on", client=client) as config:
        assert (config["backend"]._view.client, config["backend"]._view.label) == (client, None)
    newest.close()
    del joblib.parallel.BACKENDS["handed-on"]


def test_the_default_of_all(client, monkeypatch):
    monkeypatch.setattr(joblib.parallel, "DEFAULT_BACKEND", joblib.parallel.DEFAULT_BACKEND)
    client.register_joblib_backend("everywhere", make_default=True)
    with ThreadPoolExecutor(1) as outside:  # which no parallel_config is in force
        results = outside.submit(lambda: Parallel()(delayed(here_and_there)(i) for i in range(8))).result()
    del joblib.parallel.BACKENDS["everywhere"]
    assert {pid for _, pid in results} <= pids(client)


def test_without_an_open_client_one_is_made_and_kept(cluster, monkeypatch):
    gone = Client(cluster.name)
    gone.close()
    monkeypatch.setattr(joblibnames, "_own", None)
    with parallel_config("enginery") as first, parallel_config("enginery") as second:
        made = first["backend"]._view.client
        assert made is second["backend"]._view.client
        assert made is not gone
        assert len(made) == 3
    made.close()


def test_without_joblib_the_error_says_what_to_install(client, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "joblib", None)
    with pytest.raises(ImportError, match="pip install joblib"):
        client.register_joblib_backend()


# ------------------------------------------------------------------------------------------------ scikit-learn


def test_scikit_learn_searches_validates_and_grows_forests(client):
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.naive_bayes import GaussianNB
    from sklearn.tree import DecisionTreeClassifier

    x, y = load_iris(return_X_y=True)
    grid = {"max_depth": [1, 2, 3], "criterion": ["gini", "entropy"]}
    before = client.status()["tasks"]["finished"]
    search = GridSearchCV(DecisionTreeClassifier(random_state=0), grid, cv=3).fit(x, y)
    scores = cross_val_score(GaussianNB(), x, y, cv=4)
    forest = RandomForestClassifier(12, random_state=0).fit(x, y)
    assert client.status()["tasks"]["finished"] - before >= 3
    with parallel_config("sequential"):
        alone = GridSearchCV(DecisionTreeClassifier(random_state=0), grid, cv=3).fit(x, y)
        assert search.best_params_ == alone.best_params_
        np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
        np.testing.assert_array_equal(scores, cross_val_score(GaussianNB(), x, y, cv=4))
        again = RandomForestClassifier(12, random_state=0).fit(x, y)
    np.testing.assert_array_equal(forest.predict_proba(x), again.predict_proba(x))
