"""The controller: the one process with the address, owner of every task's state.

`server` does the input and output of a turn; everything it decides is decided in the pure modules below it:

```
app -> server -> core -> intake, requests, placement, taking, stopping, fleet, outcomes, questions
              -> state -> queues, functions, records, outbox
```
"""
