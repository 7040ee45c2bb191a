"""What happens in a history, drawn from its seed before it begins: so that parts of it can be left out, to find the smallest."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

from tests.simulation import app
from tests.simulation.known import OFF

#: Operations of the longest history.
LONGEST = 60


@dataclasses.dataclass(frozen=True)
class Fault:
    """What goes wrong: at the *nth* moment of *where*. *amount*: commands, or seconds."""

    where: str
    nth: int
    kind: str
    amount: Any = 1

    def __str__(self) -> str:
        return f"{self.where} #{self.nth}: {self.kind} ({self.amount})"


@dataclasses.dataclass(frozen=True)
class Op:
    """What a client does: *name* with *args*, after *pause* seconds."""

    client: int
    name: str
    args: tuple[Any, ...]
    pause: float
    #: Whether a coroutine does it, where there is one.
    asynchronous: bool = False

    def __str__(self) -> str:
        how = " (coroutine)" if self.asynchronous else ""
        return f"web-{self.client}: {self.name}{self.args}{how}, after {self.pause:.2f} s"


@dataclasses.dataclass(frozen=True)
class Listening:
    """Who has a page open, of which of their feeds (by its number), and how many items it shows."""

    user: int
    feed: int
    size: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """A history that is to be."""

    manager: str
    ops: tuple[Op, ...]
    faults: tuple[Fault, ...]
    #: Releases of the workers, and of the clients.
    workers: tuple[int, ...]
    clients: tuple[int, ...]
    doctors: int
    #: Who follows whom, and who has muted whom, at first.
    edges: tuple[tuple[int, int], ...]
    mutes: tuple[tuple[int, int], ...]
    #: Of what is drawn while it goes on.
    schedule: int
    turns: float
    #: For how many seconds faults go on when nobody asks for anything more.
    aftermath: float
    #: A process that is slow: so others come while it holds what it has begun.
    slow: str = ""
    #: Pages that are open meanwhile.
    listeners: tuple[Listening, ...] = ()
    #: Names of the feeds that are on Cassandra, where there is one.
    on_cassandra: tuple[str, ...] = ()
    #: Seconds for which a lock is held, if that is not as usual: with next to none a feed is taken over in the middle of everything.
    lock_ttl: float = 0.0

    def describe(self) -> list[str]:
        """In words."""
        releases = ("old", "new")
        return [
            f"manager {self.manager}; follows {self.edges}; mutes {self.mutes}; doctors {self.doctors};"
            f"{' ' + self.slow + ' is slow;' if self.slow else ''} workers"
            f" {', '.join(releases[each] for each in self.workers)}; clients {', '.join(releases[each] for each in self.clients)}",
            *([f"on Cassandra: {', '.join(self.on_cassandra)}"] if self.on_cassandra else []),
            *([f"locks are held for {self.lock_ttl} s"] if self.lock_ttl else []),
            *map(str, self.listeners),
            *map(str, self.ops),
            *map(str, self.faults),
        ]


Rng = random.Random


@dataclasses.dataclass(frozen=True)
class Favourites:
    """What a history is mostly about: so that what is done meets."""

    numbers: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]


def _favourites(rng: Rng) -> Favourites:
    numbers = tuple(rng.randrange(app.DRAWN) for _ in range(rng.choice((1, 2, 3, 5))))
    return Favourites(numbers, tuple((_user(rng), _user(rng)) for _ in range(rng.choice((1, 2, 3)))))


def _number(rng: Rng, favourites: Favourites) -> int:
    return rng.choice(favourites.numbers) if rng.random() < 0.75 else rng.randrange(app.DRAWN)


def _context(rng: Rng) -> tuple[str, str]:
    if "context" in OFF:
        return "a", "x"
    return rng.choice("abc"), "x" if rng.random() < 0.7 else "y"


def _spelled(rng: Rng, user: int) -> Any:
    spelled = (*app.SPELLINGS[user], app.INSTANCES[user])
    return spelled[int(rng.random() * len(spelled))] if "spelling" not in OFF else spelled[0]


def _user(rng: Rng) -> int:
    return rng.randrange(len(app.PEOPLE))


def _pair(rng: Rng, favourites: Favourites) -> tuple[Any, Any]:
    user, target = rng.choice(favourites.pairs) if rng.random() < 0.75 else (_user(rng), _user(rng))
    return _spelled(rng, user), _spelled(rng, target)


def _reader(rng: Rng, favourites: Favourites) -> int:
    """Somebody who is told of what the history is about, mostly."""
    target = app.ACTIVITIES[rng.choice(favourites.numbers)][3]
    return target if target >= 0 and rng.random() < 0.7 else _user(rng)


def _rebuilt(rng: Rng, favourites: Favourites) -> int:
    return rng.choice(favourites.pairs)[0] if rng.random() < 0.75 else _user(rng)


def _several(rng: Rng, favourites: Favourites) -> tuple[tuple[int, ...], bool]:
    return tuple(dict.fromkeys(_number(rng, favourites) for _ in range(3))), rng.random() < 0.5


def _shown(rng: Rng, favourites: Favourites) -> tuple[Any, ...]:
    """Who is shown a page, for how long it is looked at, and what is done with it."""
    pause = rng.choice((0.0, 0.01, 0.1, 2.0, 40.0))
    marks = rng.choice(((True, None), (True, True), (None, True), (False, None), (None, False), (False, True)))
    return _reader(rng, favourites), rng.choice(MARKED_AS), pause, *marks


def _solo(rng: Rng, favourites: Favourites) -> tuple[str, int, tuple[str, str]]:
    return rng.choice(("first", "last", "notes")), app.ALONE + _number(rng, favourites), ("a", "x")


#: How what was shown is told, when it is marked.
MARKED_AS = ("page", "groups", "JSON", "until page", "until revision", "until groups", "names until page")

#: How often each operation comes, and with what.
OPS: dict[str, tuple[int, Callable[[Rng, Favourites], tuple[Any, ...]]]] = {
    "add": (30, lambda rng, liked: (_number(rng, liked), _context(rng))),
    "remove": (
        14,
        lambda rng, liked: (
            _number(rng, liked),
            rng.choice([how for how in ("id", "value", "equal") if f"remove: {how}" not in OFF]),
        ),
    ),
    "remove_many": (4, _several),
    "update": (6, lambda rng, liked: (_number(rng, liked), rng.choice("abc"))),
    "import": (6, lambda rng, liked: (_user(rng) % 3, _context(rng), rng.random() < 0.85)),
    "notify": (5, lambda rng, liked: (rng.randrange(2), rng.randrange(len(app.PARTS)), _context(rng))),
    "unnotify": (3, lambda rng, liked: (rng.randrange(2), rng.randrange(len(app.PARTS)))),
    "follow": (8, _pair),
    "unfollow": (7, _pair),
    "mute": (4, _pair),
    "rebuild": (6, lambda rng, liked: (_spelled(rng, _rebuilt(rng, liked)),)),
    "remove_object": (2, lambda rng, liked: (app.ACTIVITIES[_number(rng, liked)][2], rng.random() < 0.2)),
    "delete_user": (1, lambda rng, liked: (_spelled(rng, _rebuilt(rng, liked)),)),
    "remove_actor": (4, _pair),
    "mark_all": (4, lambda rng, liked: (_reader(rng, liked), rng.random() < 0.5)),
    "mark": (3, lambda rng, liked: (_reader(rng, liked), rng.random() < 0.5)),
    "delete": (2, lambda rng, liked: (_user(rng), rng.choice(("first", "last", "notes")))),
    "reaggregate": (1, lambda rng, liked: (_user(rng),)),
    "read": (4, lambda rng, liked: (_user(rng),)),
    "solo_add": (3, _solo),
    "solo_remove": (2, _solo),
    "mark_shown": (4, _shown),
}

#: What some histories do more than others.
THEMES: tuple[tuple[str, ...], ...] = (
    (),
    (),
    ("follow", "unfollow", "rebuild"),
    ("notify", "unnotify", "mark", "mark_all", "mark_shown"),
    ("add", "mark_shown", "delete"),
    ("remove_actor", "notify", "follow", "rebuild"),
    ("remove", "remove_many", "remove_object", "import", "update"),
    ("remove_object", "delete_user", "delete_user", "notify", "rebuild"),
    ("update", "mute", "follow"),
)

#: What processes of the old release do: of what they ask for, others could not know that it concerns a new feed.
OLD_CAN = ("mark_all", "mark", "solo_add", "solo_remove", "mark_shown")

#: What can go wrong at a command, with how much of it.
COMMAND_FAULTS: dict[str, tuple[Any, ...]] = {
    "full": (1, 1, 1, 2, 3, 8, 40),
    "readonly": (1, 1, 2, 8, 40),
    "lost before": (1, 2, 6),
    "lost after": (1, 2, 6),
    "kill before": (1,),
    "kill after": (1,),
    "stall": (3, 12, 70, 700),
    "cancel": (1,),
    "flush": (1,),
    "clock": (-3600, -60, -3, 3, 60, 3600),
}
MESSAGE_FAULTS: dict[str, tuple[Any, ...]] = {
    "lose": (1,),
    "double": (0.01, 5, 70, 700),
    "late": (0.01, 1, 30, 100, 700),
    "refuse": (1,),
    "kill before": (1,),
    "kill after": (1,),
}
#: What happens to a statement for a cluster, whoever sends it, with for how many statements, or for how many seconds. A write that timed
#: out took effect, or never does, or does so after some seconds; one with a condition when the next one comes. While a cluster is slow
#: writes time out, and take effect long after it: when nodes are told what they missed. Who sends a statement late stands still before it.
CLUSTER_FAULTS: dict[str, tuple[Any, ...]] = {
    "away": (1, 30, 100, 700),
    "unavailable": (1, 1, 2, 6),
    "failure": (1, 1, 2, 8),
    "timeout": ("applied", "applied", "lost", 1, 30, 100),
    "slow": (5, 40, 200),
    "late": (0.003, 0.01, 12, 70),
}
#: What happens when it is looked whether a writer still holds the locks of its feeds, so many times: Redis has failed over to a server that
#: knows nothing of who took them meanwhile.
LOCK_FAULTS: dict[str, tuple[Any, ...]] = {"failover": (1, 3, 20, 100)}
HOOK_FAULTS: dict[str, tuple[Any, ...]] = {
    "raise": (1, 2),
    "hang": (20, 90, 200),
    "nonsense": ("text", "one", "none", "bools", "models", "mapping", "nested", "bad id"),
    "kill": (1, 2),
}


def draw(seed: int, storage: str = "memory") -> Plan:
    """The plan of *seed*."""
    rng = random.Random(seed)
    length = min(LONGEST, 1 + int(rng.expovariate(1 / 6)) if rng.random() < 0.95 else rng.randint(8, LONGEST))
    old = rng.random() < 0.2 and "old release" not in OFF
    clients = rng.choice((2, 2, 3)) if old else rng.choice((1, 2, 2, 3))
    names = [name for name in OPS if name not in OFF]
    theme = rng.choice(THEMES)
    weights = [OPS[name][0] * (4 if name in theme else 1) for name in names]
    pace = rng.choice((0.0, 0.01, 0.1, 2.0, 40.0))
    releases = tuple(app.OLD if number and old and rng.random() < 0.5 else app.NEW for number in range(clients))
    liked, ops = _favourites(rng), []
    if old:  # about what it does not know
        liked = Favourites((*liked.numbers, 3, 7), liked.pairs)
    for _ in range(length):
        name = rng.choices(names, weights)[0]
        pause = rng.random() * pace if rng.random() < 0.8 else rng.random() * 100
        client = rng.randrange(clients)
        if releases[client] == app.OLD and name not in OLD_CAN:
            name, client = (name, 0) if rng.random() < 0.6 else ("mark_all", client)
        ops.append(Op(client, name, OPS[name][1](rng, liked), pause, rng.random() < 0.4))
    everybody = [(user, target) for user in app.PEOPLE for target in app.PEOPLE if user != target]
    manager = rng.choice([each.name for each in app.MANAGERS if each.name not in OFF])
    doctors = rng.choice((0, 0, 0, 1, 2)) if "doctor" not in OFF else 0
    workers = tuple(app.OLD if old and rng.random() < 0.5 else app.NEW for _ in range(rng.choice((1, 2, 2, 3))))
    slow = [
        *(f"web-{number}" for number in range(clients)),
        *(f"worker-{number}" for number in range(len(workers))),
        "sweeper",
        "doctor-0",
    ]
    if old and rng.random() < 0.6:  # what it holds meanwhile comes from the new
        aged = [f"web-{number}" for number, release in enumerate(releases) if release == app.OLD]
        slow = aged or slow
    elif "rebuild" in theme and rng.random() < 0.5:
        slow = ["worker-0"]
    if "ahead" not in OFF:
        _insert_ahead(seed, ops)
    quick = _insert_quick(seed, ops) if "quick" not in OFF else ()
    plan = Plan(
        manager,
        tuple(ops),
        tuple(_faults(rng, length, storage, doctors)),
        workers,
        releases,
        doctors,
        tuple(pair for pair in everybody if rng.random() < 0.6),
        tuple(pair for pair in everybody if rng.random() < 0.2) if manager in ("muted", "picky") else (),
        rng.getrandbits(32),
        rng.choice((0.05, 0.3, 1.0)),
        rng.choice((0.0, 1.0, 20.0, 70.0, 130.0)),
        rng.choice(slow) if rng.random() < (0.8 if old or slow == ["worker-0"] else 0.35) else "",
        _listeners(seed) if storage == "memory" and "listeners" not in OFF else (),
    )
    if storage == "cassandra":
        plan = _outlasting(seed, _beside_cassandra(seed, plan, length))
    return _one_slow_worker(seed, plan, *quick) if quick else plan


def _beside_cassandra(seed: int, plan: Plan, length: int) -> Plan:
    """*plan*, with some of its feeds on Cassandra, and with faults of a cluster among the others."""
    rng = random.Random(f"cassandra {seed}")
    names = app.may_be_on_cassandra(plan.manager)
    which = rng.choice(("all", "all", "all but notifications", "some"))
    placed = [n for n in names if which == "all" or (n != "notes" if which != "some" else rng.random() < 0.5)]
    ops, clients, slow, faults = plan.ops, plan.clients, plan.slow, list[Fault]()
    if "rush" not in OFF and rng.random() < 0.5:
        ops, clients = _rush(rng, plan)
        slow = rng.choice((slow, f"web-{rng.randrange(len(clients))}"))
        for where, span in (("commit", 8), ("commit", 8), ("cluster", 25), ("cluster", 25)):
            faults.append(Fault(where, 1 + rng.randrange(span), "late", rng.choice(CLUSTER_FAULTS["late"])))
        faults.append(Fault("lock", 1 + rng.randrange(8), "failover", rng.choice(LOCK_FAULTS["failover"])))
    for _ in range(int(rng.expovariate(1 / 2.5) * (1 + length / 20))):
        kind = rng.choice(list(CLUSTER_FAULTS))
        where, span = rng.choice((("cluster", length * 15 + 10), ("commit", length * 5 + 4)))
        faults.append(Fault(where, 1 + int(rng.random() * span), kind, rng.choice(CLUSTER_FAULTS[kind])))
    if rng.random() < 0.3:
        nth = 1 + int(rng.random() * (length * 5 + 4))
        faults.append(Fault("lock", nth, "failover", rng.choice(LOCK_FAULTS["failover"])))
    faults = [
        each
        for each in faults
        if not OFF.keys()
        & {f"fault: {each.kind}", f"fault: {each.where} {each.kind}", f"fault: {each.kind} {each.amount}"}
    ]
    return dataclasses.replace(
        plan,
        ops=ops,
        clients=clients,
        slow=slow,
        on_cassandra=tuple(placed or names),
        faults=(*plan.faults, *faults) if plan.faults else (),
        lock_ttl=rng.choice((0.0, 0.0, 0.002, 0.01, 0.05)),
    )


def _outlasting(seed: int, plan: Plan) -> Plan:
    """*plan*, which in some histories begins with something that is taken back while a write of it has timed out, and may come behind."""
    rng = random.Random(f"outlasting {seed}")
    if "outlasting" in OFF or not plan.faults or rng.random() < 0.85:
        return plan
    number, context = rng.randrange(app.DRAWN), _context(rng)
    ops = [Op(0, "add", (number, context), 0.0), Op(0, "remove", (number, "value"), rng.choice((1.0, 20.0)))]
    if rng.random() < 0.5:
        ops.append(Op(0, "add", (number, context), 1.0))
    slow = Fault("cluster", 1 + rng.randrange(6), "slow", 40)
    return dataclasses.replace(plan, ops=(*ops, *plan.ops)[:LONGEST], faults=(slow, *plan.faults))


def _rush(rng: Rng, plan: Plan) -> tuple[tuple[Op, ...], tuple[int, ...]]:
    """Operations and clients of *plan*, with several among them that write to one feed at once, each for itself: nothing is done again
    that was lost.
    """
    clients = plan.clients if len(plan.clients) > 1 else (*plan.clients, app.NEW)
    which, numbers = rng.choice(("last", "last", "notes")), rng.sample(range(app.DRAWN), rng.choice((2, 4, 6)))
    ops = [
        Op(number % len(clients), "solo_add", (which, app.ALONE + each, ("a", "x")), rng.random() * 0.003)
        for number, each in enumerate(numbers)
    ]
    if rng.random() < 0.3:
        ops.append(Op(ops[0].client, "solo_remove", ops[0].args, 0.0))
    place = rng.choice((0, 0, rng.randint(0, len(plan.ops))))
    return ((*plan.ops[:place], *ops, *plan.ops[place:]))[:LONGEST], clients


def _one_slow_worker(seed: int, plan: Plan, author: int) -> Plan:
    """*plan*, in which one worker, which is slow, finds several things to do at once, for more people than fit into a chunk.

    It meets more faults than others at what it does then.
    """
    rng = random.Random(f"slow {seed}")
    followers = tuple((user, author) for user in range(len(app.PEOPLE)) if user != author)
    faults = []
    for _ in range(rng.choice((0, 1, 2, 4))):
        kind = rng.choice([kind for kind in COMMAND_FAULTS if f"fault: {kind}" not in OFF and kind != "flush"])
        fault = Fault(
            "worker", 1 + int(rng.random() * (len(plan.ops) * 12 + 20)), kind, rng.choice(COMMAND_FAULTS[kind])
        )
        if not OFF.keys() & {f"fault: worker {kind}", f"fault: {kind} {fault.amount}"}:
            faults.append(fault)
    return dataclasses.replace(
        plan,
        workers=plan.workers[:1],
        slow="worker-0",
        edges=tuple(dict.fromkeys((*plan.edges, *followers))),
        faults=(*plan.faults, *faults) if plan.faults else (),
    )


def _insert_ahead(seed: int, ops: list[Op]) -> None:
    """Let some histories deal with activities that are dated too far ahead, among all else that they do."""
    rng = random.Random(f"ahead {seed}")
    if rng.random() < 0.8:
        return
    for name in rng.choice((("ahead",), ("ahead", "ahead"), ("ahead", "after"), ("ahead", "after", "after", "ahead"))):
        given = (_context(rng),) if name == "ahead" else (rng.choice(("add", "remove", "update")), _context(rng))
        if len(ops) < LONGEST:
            ops.insert(rng.randint(0, len(ops)), Op(0, name, given, rng.random() * 3, rng.random() < 0.4))


def _insert_quick(seed: int, ops: list[Op]) -> tuple[int, ...]:
    """Let somebody in some histories do several things in quick succession, among all else; who it is, if a worker is to find them
    at once.
    """
    rng = random.Random(f"quick {seed}")
    if rng.random() < 0.75:
        return ()
    actor = rng.choice((0, 0, 0, 1, 2, 3))
    numbers = [number for number in range(app.DRAWN) if app.ACTIVITIES[number][0] == actor]
    numbers = rng.sample(numbers, min(len(numbers), rng.choice((2, 3, 5))))
    quick = [Op(0, "add", (number, _context(rng)), 0.0) for number in numbers]
    if rng.random() < 0.4:  # and takes something of it back
        quick.insert(rng.randint(1, len(quick)), Op(0, "remove", (quick[0].args[0], "id"), rng.random() * 0.02))
    place = rng.randint(0, len(ops))
    ops[place:place] = quick[: LONGEST - len(ops)]
    return (actor,) if rng.random() < 0.6 else ()


def _listeners(seed: int) -> tuple[Listening, ...]:
    """The open pages of the history *seed*."""
    rng = random.Random(f"listeners {seed}")
    if rng.random() < 0.6:
        return ()
    users = list(range(len(app.PEOPLE)))
    return tuple(
        Listening(rng.choice(users), rng.randrange(3), rng.choice((1, 2, 25))) for _ in range(rng.choice((1, 1, 2, 3)))
    )


def _faults(rng: Rng, length: int, storage: str, doctors: int) -> list[Fault]:
    if rng.random() < 0.07:
        return []
    kinds = {
        "web": (5, COMMAND_FAULTS, length * 5 + 2),
        "worker": (5, COMMAND_FAULTS, length * 12 + 4),
        "sweeper": (1, COMMAND_FAULTS, 20),
        "doctor": (1 if doctors else 0, COMMAND_FAULTS, 60),
        "message": (4, MESSAGE_FAULTS, length + 1),
        "hook": (2, HOOK_FAULTS, length + 1),
    }
    found = []
    for _ in range(1 + int(rng.expovariate(1 / 2.5) * (1 + length / 20))):
        where = rng.choices(list(kinds), [weight for weight, _, _ in kinds.values()])[0]
        _, known, span = kinds[where]
        kind = rng.choice(list(known))
        fault = Fault(where, 1 + int(rng.random() * span), kind, rng.choice(known[kind]))
        if f"fault: {kind}" in OFF or f"fault: {where} {kind}" in OFF or f"fault: {kind} {fault.amount}" in OFF:
            continue
        if kind == "flush" and storage == "memory":
            continue
        found.append(fault)
    return found
