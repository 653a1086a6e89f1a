"""One end of iroh (PyPI) for bench/framework.py, run by the environment that has it.

python bench/iroh_end.py b PORT          serves; prints "ready ID"
python bench/iroh_end.py a HOST:PORT ID  reads lines "stream SECONDS", answers as framework_end.py
Relays and discovery are off: both ends see each other.
"""

import asyncio
import json
import sys
import time

import iroh

ALPN = b"ntmobile-bench"
PIECE = bytes(1 << 18)


async def endpoint(address: str | None) -> iroh.Endpoint:
    options = iroh.EndpointOptions(
        preset=iroh.preset_minimal(),
        alpns=[ALPN],
        bind_addr=address,
        relay_mode=iroh.RelayMode.disabled(),
    )
    return await iroh.Endpoint.bind(options)


async def serve(port: str) -> None:
    end = await endpoint(f"0.0.0.0:{port}")
    print("ready", end.id(), flush=True)
    connection = await (await (await end.accept_next()).accept()).connect()
    while True:
        stream = await connection.accept_bi()
        begun, count = time.perf_counter(), 0
        while data := await stream.recv().read(1 << 20):
            count += len(data)
        told = {"bytes": count, "seconds": time.perf_counter() - begun}
        await stream.send().write_all(json.dumps(told).encode())
        await stream.send().finish()


async def ask(place: str, name: str) -> None:
    end = await endpoint(None)
    address = iroh.EndpointAddr(iroh.EndpointId.from_string(name), None, [place])
    connection = await end.connect(address, ALPN)
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        stream = await connection.open_bi()
        until = time.perf_counter() + float(line.split()[1])
        while time.perf_counter() < until:
            await stream.send().write_all(PIECE)
        await stream.send().finish()
        told = await stream.recv().read_to_end(1000)
        print(told.decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[2]) if sys.argv[1] == "b" else ask(*sys.argv[2:]))
