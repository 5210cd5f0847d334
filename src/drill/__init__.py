"""The drill: a proof that nothing is lost. A cluster is hurt in every way while it works, and every task accounted for.

```
schedule   pure: from a seed, which fault comes when, and for how long
faults     carries them out, and undoes what can be undone
proxy      a stretch of wire between a client and the controller that can be cut, frozen and healed
tasks      pure: the kinds of tasks, and how each can end
marks      what each run of a task leaves behind, so that a second run is seen
calls      the functions that run on the engines
workload   a program of its own: a client that submits, waits for everything, and judges each outcome
crew       the drill's end of these programs
account    pure: adds up, compares outcomes with marks, and says it
leavings   what of a stopped cluster is still there
drill      the whole: cluster, clients, faults, account
```
"""
