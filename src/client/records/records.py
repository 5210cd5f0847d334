"""`Records`: what a client can ask of the cluster's memory, whoever submitted a task, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...ids import TaskId, show_task
from ...wire import messages as m
from . import queries
from .fetches import find, get_result, named
from .purges import forget, release
from .resubmit import resubmit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..connection.link import Link
    from ..results.futures import AsyncResult
    from ..views.directview import Targets
    from .fetches import Tasks
    from .purges import Engines


class Records:
    """The part of `Client` that is about tasks that were submitted before, answered from the journal.

    What it keeps, and how long, is said by `cluster start --keep 7d --keep-bytes 2GB`; without a journal
    (`--no-journal`) all of these raise ClusterError.
    """

    _link: Link
    _cluster: str
    _resolve: Callable[..., tuple[tuple[int, ...], bool]]

    # ---------------------------------------------------------------- results

    def get_result(self, tasks: Tasks | None = None, *, label: str | None = None, block: bool = False) -> Any:
        """Return the results of tasks of any client, by id or label: also of one that is gone, or of a cluster of this
        name that was stopped since.

            client.get_result("3-17")                # an id, as `msg_id` gives it: an AsyncResult
            client.get_result(["3-17", "3-18"])      # several, or a label: all of them, in order of submission
            client.get_result(label="training").get()

        Of several, the value is a list; a task of a map counts for as many values as it has items. What comes back is
        done when all the tasks have ended. Their errors, output and times are those that their client gets. With
        `block`, wait and return the value. Raises NoSuchTask (a KeyError) naming what the cluster does not know,
        ClusterError if it has no journal.
        """
        result = get_result(self._link, self._cluster, tasks, label)
        return result.get() if block else result

    def resubmit(self, tasks: Tasks | None = None, *, label: str | None = None, block: bool = False) -> Any:
        """Submit tasks again, as they were: of any client, gone or not, also of a cluster of this name that was stopped
        since. They are new tasks, of this client.

            again = client.resubmit("3-17")                          # an AsyncResult
            again = client.resubmit(failed)                          # a result, of any kind: one of the same kind
            again = client.resubmit(label="training").get()          # several: as get_result() has them

            bad = client.db_query({"label": "training", "status": {"$in": ["error", "lost"]}}, keys=[])
            again = client.resubmit([record["msg_id"] for record in bad])

        Function and arguments are those of then; label, targets, retries, timeout, priority and all other options are
        kept. Calls on certain engines go to engines of the same ids. With `block`, wait and return the value.

        Raises NoSuchTask naming what the cluster does not know; ClusterError naming a task whose function or arguments
        are not kept (arguments of more than 64 MB are not): then nothing was submitted.
        """
        result = resubmit(self, tasks, label)
        return result.get() if block else result

    # ---------------------------------------------------------------- records

    def db_query(self, query: dict[str, Any], keys: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return the records of all tasks that a query asks for, in order of submission. Never waits for a task.

            client.db_query({"label": "training", "status": {"$ne": "ok"}}, keys=["status", "engine_id"])
            client.db_query({"submitted": {"$gte": yesterday}, "$or": [{"duration": {"$gt": 60}}, {"engine_id": 3}]})
            client.db_query({"label": {"$glob": "train-*"}, "retries": {"$in": [1, 2]}})

        A record is a dict of these fields, or with `keys` of those (`msg_id` is always there):

        - `msg_id` (text); `label`, or None; `client`: the number of the client that submitted it;
        - `status`: `pending`, or as `AsyncResult.status` says how it ended;
        - `submitted`; `started` and `completed`, by the engine's clock; `received` by the controller: aware datetimes
          in UTC, None if it has not happened. `duration`: seconds of run time, or None;
        - `engine_id`: where it ran, or is; None if it waits or never ran;
        - `items` of a task of a map, else None. Such a task is one record: its status is the worst of its items', it
          started with the first, was completed with the last, and ran where that one did;
        - `function`: a name of the function as it was sent, equal for equal functions (`!execute`, `!push`, ... for
          what views do);
        - `targets` (a list, or None for any engine), `retries`, `priority`, `timeout`, `resources` (a dict), and
          `after` and `follow` (lists of ids, or None): as it was submitted.

        A query is a dict of fields and what they are to be, all of it: a value, or operators. `$eq`, `$ne`, `$gt`,
        `$gte`, `$lt`, `$lte` compare, `$in` and `$nin` take a list of values, `$glob` a pattern of text (`*`, `?`,
        `[a-z]`; case matters), `$exists` True for fields that are not None. `$and` and `$or` take a list of queries
        (or, within a field, of conditions), `$not` one.

        Only values of one kind compare: numbers, text, times, lists, dicts, None. Of two kinds none is less or greater,
        and no two are equal: `$eq`, `$gt`, `$in` and the like are false, `$ne` and `$nin` true; it is never an error.
        Lists, dicts and None are equal or not, never less or greater. Times must have a zone.

        Raises ValueError for what is no query, naming the field or operator and what there is, or a time without zone;
        ClusterError if the cluster has no journal.
        """
        return queries.query(self._link, query, keys)

    def hub_history(self) -> list[str]:
        """Return the ids of all tasks that the cluster knows, of all clients, in order of submission.

        client.get_result(client.hub_history()[-1])
        """
        return [show_task(TaskId(task)) for task in queries.ids(self._link, {})]

    def result_status(self, tasks: Tasks | None = None, *, label: str | None = None) -> dict[str, Any]:
        """Return which of these tasks have ended, by id or label. Never waits for a task.

            client.result_status(["3-17", "3-18"])
            # {"completed": ["3-17"], "pending": ["3-18"], "status": {"3-17": "error", "3-18": "pending"}}

        `completed` are all that have ended, however; `status` is as `AsyncResult.status`. Raises NoSuchTask naming what
        the cluster does not know, ClusterError if it has no journal.
        """
        ids, _ = named(tasks, label)
        shown = [show_task(TaskId(info.id)) for info in find(self._link, self._cluster, ids, label)]
        status = dict.fromkeys(shown, "unknown")  # of one that is purged meanwhile
        for at in range(0, len(shown), queries.AT_A_TIME):
            some = {"msg_id": {"$in": shown[at : at + queries.AT_A_TIME]}}
            status.update((r["msg_id"], r["status"]) for r in queries.query(self._link, some, ["status"]))
        return {
            "completed": [id_ for id_ in status if status[id_] != "pending"],
            "pending": [id_ for id_ in status if status[id_] == "pending"],
            "status": status,
        }

    def queue_status(self, targets: Targets = "all", verbose: bool = False) -> dict[int | str, Any]:
        """Return how many tasks each engine has, of all clients.

            client.queue_status()
            # {0: {"queue": 0, "completed": 41, "tasks": 2}, 1: {...}, "unassigned": 5}

        By engine: `queue`, those addressed to it by direct views, waiting or running; `tasks`, the others that it was
        given; `completed`, how many it has run since it started. `unassigned` are those that no engine was given yet.
        (The tasks of a map are divided as need be: then each part counts.)

        With `verbose`, each is a list of ids instead; `completed` are then all tasks that ended on an engine of that
        id, as far as the journal keeps them. Raises NoSuchEngine; with `verbose`, ClusterError without a journal.
        """
        ids = None if targets is None or targets == "all" else list(self._resolve(targets)[0])
        counts: dict[int | None, Any] = self._link.request(m.QueueQuery, ids, verbose).result()
        unassigned = counts.pop(None)
        status: dict[int | str, Any] = {}
        for engine, (queue, tasks, completed) in counts.items():
            assert engine is not None
            status[engine] = {"queue": queue, "completed": completed, "tasks": tasks}
        status["unassigned"] = unassigned
        if verbose:
            self._name(status)
        return status

    def _name(self, status: dict[int | str, Any]) -> None:
        """Have the ids of tasks in place of numbers."""
        engines = [engine for engine in status if engine != "unassigned"]
        for engine in engines:
            for name in ("queue", "tasks"):
                status[engine][name] = [show_task(TaskId(task)) for task in status[engine][name]]
            status[engine]["completed"] = []
        status["unassigned"] = [show_task(TaskId(task)) for task in status["unassigned"]]
        query = {"engine_id": {"$in": engines}, "status": {"$ne": "pending"}}
        for record in queries.query(self._link, query, ["engine_id"]):
            status[record["engine_id"]]["completed"].append(record["msg_id"])

    # ---------------------------------------------------------------- forgetting

    def purge_results(self, jobs: Tasks | None = None, targets: Engines = None, *, label: str | None = None) -> None:
        """Have the cluster forget tasks that have ended, with their results and output: nobody finds them any more.

            client.purge_results("3-17")                 # by id, a list of ids, or results
            client.purge_results(label="training")
            client.purge_results(targets=[0, 1])         # what ended on engines of these ids, there or gone
            client.purge_results("all")

        What results hold here, they hold: see `purge_local_results`. Raises NoSuchTask naming what the cluster does not
        know, ClusterError naming a task that has not ended.
        """
        forget(self._link, self._cluster, jobs, label, targets)

    def purge_hub_results(
        self, jobs: Tasks | None = None, targets: Engines = None, *, label: str | None = None
    ) -> None:
        """Have the cluster forget tasks: another name of `purge_results`.

        client.purge_hub_results(label="training")
        """
        self.purge_results(jobs, targets, label=label)

    def purge_local_results(self, jobs: AsyncResult | Iterable[AsyncResult]) -> None:
        """Have results hold their values and errors no longer, to make room here; the cluster keeps what it has.

            client.purge_local_results(result)           # or a list of results
            result.get()                                 # NoSuchTask: ... was purged from this client
            client.get_result(result).get()              # from the cluster

        A client holds values only in the results that you hold, so those are what it takes. Status, times and output
        stay. Raises ValueError for one that is not done, TypeError for what is no result.
        """
        release(jobs)

    def purge_everything(self) -> None:
        """Have the cluster forget all tasks that have ended, of all clients, as `purge_results("all")` does.

        client.purge_everything()
        """
        self.purge_results("all")
