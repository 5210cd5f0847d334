"""`Records`: what a client can ask of the cluster's memory, whoever submitted a task, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .fetches import forget, get_result

if TYPE_CHECKING:
    from .fetches import Tasks
    from .link import Link


class Records:
    """The part of `Client` that is about tasks that were submitted before, answered from the journal."""

    _link: Link
    _cluster: str

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

    def purge_results(self, tasks: Tasks | None = None, *, label: str | None = None) -> None:
        """Have the cluster forget tasks that have ended, by id or label, or `"all"`: nobody finds them any more.

        Raises NoSuchTask naming what it does not know, ClusterError naming a task that has not ended.
        """
        forget(self._link, self._cluster, tasks, label)
