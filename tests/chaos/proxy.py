"""A TCP proxy in a process of its own that cuts, delays, freezes and drops on command: ``python -m tests.chaos.proxy PORT``.

It is told what to do by one JSON object a line on its standard input, and answers each with one line. It ends with it.

A *rule* waits for a pattern in what clients send and then counts bytes: of the request from the pattern on, or of the
answer. When they have passed, the connection is cut, or held until it is released. So a commit can be cut before the
server has it, after the server did it, or in the middle of the answer. A *fuse* does the same without a pattern.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import sys
from typing import Any

#: Bytes moved at once.
BLOCK = 65_536


@dataclasses.dataclass
class Rule:
    """Where to strike, and how often still."""

    patterns: list[bytes]
    #: ``request`` or ``answer``: what the bytes are counted in.
    side: str
    after: int
    #: ``cut`` or ``hold``.
    action: str
    times: int

    def found(self, block: bytes) -> int:
        """Where a pattern begins in *block*; -1 if none does."""
        places = [place for place in map(block.find, self.patterns) if place >= 0]
        return min(places, default=-1)


class Link:
    """One client's connection."""

    def __init__(self, proxy: Proxy, client: Any, server: Any) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        #: A rule that has seen its pattern and waits for the answer.
        self.armed: Rule | None = None
        self.held = asyncio.Event()
        self.held.set()
        #: Bytes until it is cut, both ways together; None for never.
        self.fuse: int | None = None

    def cut(self) -> None:
        """Close both ends; what was not passed on is lost."""
        self.held.set()
        for _, writer in (self.client, self.server):
            writer.transport.abort()

    async def run(self) -> None:
        """Pass on until either end is closed."""
        ways = [asyncio.ensure_future(way) for way in (self._request(), self._answer())]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        with contextlib.suppress(OSError):
            await self.server[1].drain()
        for _, writer in (self.client, self.server):
            writer.close()

    async def _request(self) -> None:
        while block := await self.client[0].read(BLOCK):
            for rule in self.proxy.rules:
                place = rule.found(block) if rule.times > 0 and self.armed is None else -1
                if place < 0:
                    continue
                rule.times -= 1
                if rule.side == "answer":
                    self.armed = rule
                    break
                await self._pass(self.server[1], block[: place + rule.after])
                block = block[place + rule.after :]
                await self._strike(rule)
                break
            await self._pass(self.server[1], block)

    async def _answer(self) -> None:
        while block := await self.server[0].read(BLOCK):
            if self.armed is not None:
                rule, self.armed = self.armed, None
                await self._pass(self.client[1], block[: rule.after])
                block = block[rule.after :]
                await self._strike(rule)
            await self._pass(self.client[1], block)

    async def _strike(self, rule: Rule) -> None:
        if rule.action == "hold":
            self.held.clear()
        self.proxy.hits += 1
        if rule.action == "cut":
            with contextlib.suppress(OSError):  # what was passed on arrives; only then the end
                await self.server[1].drain()
                await asyncio.sleep(0.005)
            self.cut()
            raise ConnectionAbortedError

    async def _pass(self, writer: asyncio.StreamWriter, block: bytes) -> None:
        if self.proxy.delay:
            await asyncio.sleep(self.proxy.delay)
        await self.held.wait()
        await self.proxy.flowing.wait()
        if self.proxy.dropping:
            self.proxy.hits += bool(block)
            return
        burnt = self.fuse is not None and len(block) >= self.fuse
        if self.fuse is not None:
            block, self.fuse = block[: self.fuse], self.fuse - len(block)
        if block:
            writer.write(block)
            await writer.drain()
        if burnt:
            self.proxy.hits += 1
            self.cut()
            raise ConnectionAbortedError


class Proxy:
    """Listens, and obeys."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.links: set[Link] = set()
        self.rules: list[Rule] = []
        self.hits, self.delay, self.refusing, self.dropping = 0, 0.0, False, False
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.fuse: int | None = None

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client has come."""
        try:
            if self.refusing:
                raise ConnectionRefusedError
            server = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.transport.abort()
            return
        link = Link(self, (reader, writer), server)
        link.fuse = self.fuse
        self.links.add(link)
        try:
            with contextlib.suppress(OSError):
                await link.run()
        finally:
            self.links.discard(link)

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order; how many strikes there were so far, and how many connections there are."""
        match order.pop("do"):
            case "rule":
                patterns = [pattern.encode() for pattern in order.pop("patterns")]
                self.rules.append(Rule(patterns, **order))
            case "fuse":
                self.fuse = order["after"]
                for link in self.links:
                    link.fuse = self.fuse
            case "set":
                self.delay = order.get("delay", self.delay)
                self.refusing = order.get("refusing", self.refusing)
                self.dropping = order.get("dropping", self.dropping)
                (self.flowing.clear if order.get("frozen", not self.flowing.is_set()) else self.flowing.set)()
            case "cut":
                self.hits += len(self.links)
                for link in list(self.links):
                    link.cut()
            case "release":
                for link in self.links:
                    link.held.set()
            case "forget":
                self.rules.clear()
            case "count":
                pass
        return {"hits": self.hits, "links": len(self.links), "held": sum(not k.held.is_set() for k in self.links)}


async def serve(port: int) -> None:
    """Proxy to *port* until standard input ends."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0, limit=4 * BLOCK)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(proxy.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
