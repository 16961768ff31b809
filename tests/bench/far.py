"""A loopback port that leads to another one as if it stood far away: what is sent arrives, each way, after half of the round trip.

The kernel could delay packets itself (tc netem), but not every kernel has that.
"""

import asyncio
import contextlib
import threading


@contextlib.contextmanager
def away(port, round_trip):
    """The number of the port that leads to `port`, `round_trip` seconds away."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    serve = asyncio.start_server(lambda near, to_near: connect(port, round_trip / 2, near, to_near), "127.0.0.1", 0)
    server = asyncio.run_coroutine_threadsafe(serve, loop).result(timeout=10)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(close(server), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def close(server):
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def connect(port, delay, near, to_near):
    far, to_far = await asyncio.open_connection("127.0.0.1", port)
    try:
        await asyncio.gather(carry(near, to_far, delay), carry(far, to_near, delay))
    finally:
        to_far.close()
        to_near.close()


async def carry(source, sink, delay):
    """Sends on what comes, in order, and late; the end of it, too."""
    loop = asyncio.get_running_loop()
    on_the_way = asyncio.Queue()

    async def arrive():
        while True:
            due, data = await on_the_way.get()
            await asyncio.sleep(max(0, due - loop.time()))
            if not data:
                break
            sink.write(data)
            await sink.drain()
        sink.write_eof()

    arriving = asyncio.create_task(arrive())
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 16):
            on_the_way.put_nowait((loop.time() + delay, data))
        on_the_way.put_nowait((loop.time() + delay, b""))
        await arriving
    arriving.cancel()
