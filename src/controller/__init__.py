"""The controller: the one process with the address, owner of every task's state.

`server` does the input and output of a turn; everything it decides is decided in the pure modules below it:

```
app -> server -> core -> intake, outcomes, stopping, fleet, placement -> state -> queues, functions, records, outbox
```
"""
