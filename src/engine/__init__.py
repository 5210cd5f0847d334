"""The engine: a process whose main thread runs the user's code, and whose control thread answers meanwhile.

`app` starts it; `runner` and `items` run calls; `books` says what may run and what is given back; `link` is the socket
to the controller; `control` the second thread. `kernel` is the only module that knows IPython and ipykernel.
"""
