"""The nanny: one per host, the parent of everything there. It starts engines, watches them, and buries them.

```
app        takes the cluster's lock, starts zygote and controller side by side, hands over to the server
server     the loop: sockets, pipes, signals, timers; feeds the core and does what it says
core       pure: which engine is in which state, what to start, kill or report, how a stop proceeds
zygote     a program of its own: the engines' parent, a fork server
children   the nanny's end of the zygote
output     what engines write to their descriptors 1 and 2
metrics    memory of processes
kills      pure: whether the kernel killed one for lack of memory
oom        where the kernel counts such kills
```
"""
