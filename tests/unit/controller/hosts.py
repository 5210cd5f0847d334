"""Hosts with stores on the workbench: tests speak for their nannies about objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enginery.wire import messages as m
from enginery.wire.objects import reference_to

from unit.controller.bench import NannySide

if TYPE_CHECKING:
    from unit.controller.bench import Bench, ClientSide


def store_id(n: int) -> bytes:
    return b"store%03d" % n


class Hosts:
    """So many hosts, each with a store and engines, and a client; what is said of objects is in terms of hosts."""

    def __init__(self, bench: Bench, hosts: int, engines: int = 1, clients: int = 1, *, serving: bool = True) -> None:
        self.bench = bench
        for n in range(hosts):
            self.add(n, engines, serving=serving)
        for _ in range(clients):
            bench.add_client().hello()
        self.numbers = 0

    def add(self, n: int, engines: int, *, serving: bool = True) -> NannySide:
        """Have another host."""
        bench = self.bench
        source = m.Source(store_id(n), f"tcp://10.0.0.{n}:1" if serving else "", "key")
        hello = m.NannyHello(m.VERSION, f"host{n}", 50 + n, 4, engines, head=n == 0, store=source)
        nanny = NannySide(bench, b"nhost%d.1" % n, hello)
        bench.nannies.append(nanny)
        bench.sides[nanny.name] = nanny
        nanny.say(hello)
        nanny.take(m.NannyWelcome)
        if engines:
            bench.hello_engines(nanny)
            for client in bench.clients:
                client.news()
        return nanny

    def object(self, n: int, nbytes: int = 5_000_000, *, put: bool = True) -> m.ObjectInfo:
        """Return an object made at a host; the first client has put it there."""
        self.numbers += 1
        info = m.ObjectInfo(store_id(n) + self.numbers.to_bytes(8, "big"), nbytes)
        if put:
            self.bench.clients[0].say(m.Put([info]))
        return info

    def submit(self, *objects: m.ObjectInfo, n: int = 1, client: ClientSide | None = None, **options: Any) -> list[int]:
        """Submit tasks with these objects among their arguments; return their ids."""
        client = client or self.bench.clients[0]
        function = options.pop("function", b"f")
        wanted = m.Options(**options)
        copies = len(wanted.targets or ()) if wanted.ordered else 1
        ids = client.new_ids(n * copies)
        payload = reference_to(objects[0])
        tasks = [m.Task(id_, function, payload, 0, 0, 0, copies, (), tuple(objects)) for id_ in ids[::copies]]
        client.say(m.Submit([m.Function(function, b"pickle")], [wanted], tasks))
        return ids

    def need(self, n: int, *infos: m.ObjectInfo) -> None:
        self.bench.nannies[n].say(m.Need([info.id for info in infos]))

    def pulled(self, n: int, *infos: m.ObjectInfo) -> None:
        self.bench.nannies[n].say(m.Pulled(list(infos)))

    def unpulled(self, n: int, info: m.ObjectInfo, why: str = "no answer", *, full: bool = False) -> None:
        self.bench.nannies[n].say(m.Unpulled(info.id, why, full))

    def pulls(self, n: int) -> list[tuple[bytes, list[int]]]:
        """Return what a host was told to bring: objects, and the hosts to take each from."""
        told = [message for message, _ in self.bench.nannies[n].take_all(m.Pull)]
        return [(pull.object.id, [int(source.store[-3:]) for source in pull.sources]) for pull in told]

    def pull(self, n: int) -> list[int]:
        """Return the hosts that a host was told to take the one object from."""
        ((_, sources),) = self.pulls(n)
        return sources

    def lacking(self, n: int) -> str:
        """Return why a host cannot have the one object it wants."""
        return self.bench.nannies[n].take(m.Lacking).why

    def drops(self, n: int) -> list[bytes]:
        """Return what a host was told to drop."""
        return [id_ for message, _ in self.bench.nannies[n].take_all(m.Drop) for id_ in message.objects]

    def lose(self, n: int) -> None:
        """A host leaves."""
        self.bench.nannies[n].say(m.Goodbye())

    def release(self, *infos: m.ObjectInfo) -> None:
        """The first client lets go of its handles."""
        self.bench.clients[0].say(m.Release([info.id for info in infos]))
