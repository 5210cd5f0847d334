"""Which numbers below a limit need the most steps to reach 1 by the Collatz rule? Needs a running cluster."""

import enginery

LIMIT = 100_000


def steps(n):
    """Return how many steps n needs: halve it if it is even, else triple it and add one."""
    count = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        count += 1
    return count


with enginery.Client() as client:  # the cluster that runs
    print(f"{len(client)} engines: {client.ids}")

    # One call on whichever engine is free. A future, as in concurrent.futures.
    print("27 needs", client.submit(steps, 27).result(), "steps")

    # Many calls, spread over the engines. Results come in order, as they arrive.
    needed = client.map(steps, range(1, LIMIT)).get()
    print("below", LIMIT, "it is", 1 + max(range(len(needed)), key=needed.__getitem__), "with", max(needed))

    # Engines keep their variables. client[:] means all of them, client[0] the first.
    client[:]["limit"] = LIMIT
    client[0].execute("limit = limit // 2", block=True)
    print("limit is", client[:]["limit"])

    # An item that fails raises here what it raised there; the other items are unharmed.
    results = client.map(lambda x: 12 / x, [3, 2, 1, 0, 4])
    try:
        results.get()
    except ZeroDivisionError as error:
        print(f"{error} (engine {error.engine}); item 4 is {results[4]}")
