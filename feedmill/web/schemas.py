"""What requests and answers hold: the one definition from which they are checked and described."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any, Literal, Union

from fastapi import Path, Query
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    model_validator,
)

from feedmill.ids import MAX_ID_LENGTH, MAX_INT, MIN_INT

#: Activities of one bulk request, and groups that are marked in one.
MOST_ACTIVITIES, MOST_MARKED = 1000, 1000
#: Items of a page, and of a page of actors.
MOST_ITEMS, MOST_ACTORS = 100, 1000
#: Characters of a cursor, of what stands for a page, and of the name of a group.
MAX_TEXT = 4096
#: Characters that are shown of the name of a field that is not known.
MOST_SHOWN = 80
#: Control characters are in no id: nothing could show them, and logs would break.
_NO_CONTROLS = r"^[^\x00-\x1f\x7f]+$"
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def _time(value: object) -> object:
    """*value*, if it is a time as RFC 3339 has it."""
    if isinstance(value, str) and _TIME.fullmatch(value):
        return value
    raise ValueError("use a time with its offset, such as 2026-02-03T04:05:06Z")


#: An id in a body: a number of 64 bits, or a text. 5 and "5" are one user.
Id = Annotated[
    Union[
        Annotated[StrictInt, Field(ge=MIN_INT, le=MAX_INT)],
        Annotated[StrictStr, Field(min_length=1, max_length=MAX_ID_LENGTH, pattern=_NO_CONTROLS)],
    ],
    Field(description="A whole number of 64 bits, or a text such as `ann` or `post:5`."),
]
#: A time in a body.
Time = Annotated[AwareDatetime, BeforeValidator(_time), WithJsonSchema({"type": "string", "format": "date-time"})]
ActivityId = Annotated[
    StrictStr, Field(description="32 hexadecimal digits.", examples=["0005f5e100abcdef0123456789abcdef"])
]


class Body(BaseModel):
    """The body of a request: what it does not know is refused."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        """Refuse unknown fields at once: an error for each would be longer than the body."""
        unknown = [name for name in value if name not in cls.model_fields] if isinstance(value, dict) else []
        if unknown:
            shown = ", ".join(repr(name[:MOST_SHOWN]) for name in unknown[:3])
            raise ValueError(
                f"unknown: {shown}{', …' if len(unknown) > 3 else ''}; known: {', '.join(cls.model_fields)}"
            )
        return value


class OwnActivityIn(Body):
    """What the user of the path did."""

    verb: Annotated[
        Union[StrictInt, Annotated[StrictStr, Field(min_length=1, max_length=MAX_ID_LENGTH)]],
        Field(description="The id of a registered verb, or its name in the infinitive, such as `love`."),
    ]
    object: Id
    target: Union[Id, None] = None
    time: Annotated[
        Union[Time, None],
        Field(
            description="When it happened. Default: when the request came; with an idempotency key, when it came first."
        ),
    ] = None
    extra_context: Annotated[
        dict[str, Any], Field(description="What else is to be kept, up to 64 KiB.", default_factory=dict)
    ]


class ActivityIn(OwnActivityIn):
    """What somebody did."""

    actor: Id


class ActivitiesIn(Body):
    """What several did. Each item is like the body of adding one activity; a wrong one harms no other."""

    activities: Annotated[
        list[Annotated[Any, WithJsonSchema({"$ref": "#/components/schemas/ActivityIn"})]],
        Field(min_length=1, max_length=MOST_ACTIVITIES),
    ]


class ContextIn(Body):
    """What an activity is to hold from now on; all else of it cannot change."""

    extra_context: Annotated[dict[str, Any], Field(description="In place of the one before.")]


class ShownGroup(BaseModel):
    """A group as it was read, or these two of it. What arrived in it since is not marked."""

    model_config = ConfigDict(extra="ignore")

    group: Annotated[StrictStr, Field(min_length=1, max_length=MAX_TEXT)]
    revision: Annotated[StrictStr, Field(max_length=MAX_TEXT)]


_MARK = "true sets it, false clears it, null leaves it as it is."


class MarkIn(Body):
    """What is to be marked, and how."""

    groups: Annotated[
        Union[
            Annotated[
                list[Union[ShownGroup, Annotated[StrictStr, Field(min_length=1, max_length=MAX_TEXT)]]],
                Field(max_length=MOST_MARKED),
            ],
            None,
        ],
        Field(description="Groups as they were read, or their names. null, the default: all."),
    ] = None
    seen: Annotated[Union[bool, None], Field(description=_MARK, strict=True)] = True
    read: Annotated[Union[bool, None], Field(description=_MARK, strict=True)] = None
    until: Annotated[
        Union[Annotated[StrictStr, Field(max_length=MAX_TEXT)], None],
        Field(
            description="`revision` of a page or a group: groups in which something arrived later are left as they are."
        ),
    ] = None


# -- answers


class FanoutOut(BaseModel):
    """Work that workers do."""

    id: str
    op: Annotated[str, Field(description="What is done, such as `add`, `remove` or `follow`.")]


class AcceptedOut(BaseModel):
    """It is stored, and cannot be lost. Workers do the rest."""

    id: Annotated[Union[str, None], Field(description="The id of the activity, where it is about one.")]
    fanout: Annotated[Union[FanoutOut, None], Field(description="null where an app's own method returned none.")]


class ItemOut(BaseModel):
    """What became of one item of a bulk request."""

    status: Literal["accepted", "refused"]
    id: Annotated[Union[str, None], Field(description="The id of an accepted activity.")]
    fanout: Union[FanoutOut, None]
    reason: Annotated[str, Field(description="Why it was refused; else empty.")]


class ItemsOut(BaseModel):
    """What became of a bulk request, in the order of its items."""

    accepted: int
    refused: int
    items: list[ItemOut]


class VerbOut(BaseModel):
    """What was done."""

    id: int
    name: Annotated[str, Field(description="In the infinitive.")]
    past_tense: str


class Extensible(BaseModel):
    """What feeds show: an app's classes may add keys."""

    model_config = ConfigDict(extra="allow")


class ActivityOut(Extensible):
    """An activity, as `to_dict()` of the feed's class makes it."""

    id: str
    actor_id: Union[int, str]
    verb: VerbOut
    object_id: Union[int, str]
    target_id: Union[int, str, None]
    time: dt.datetime
    extra_context: dict[str, Any]


class GroupOut(Extensible):
    """Activities that are shown as one, as `to_dict()` of the feed's class makes it."""

    group: str
    verb: Union[VerbOut, None]
    activity_count: int
    actor_count: int
    actor_ids: list[Union[int, str]]
    object_ids: list[Union[int, str]]
    created_at: Union[dt.datetime, None]
    updated_at: Union[dt.datetime, None]
    is_seen: bool
    is_read: bool
    seen_at: Union[dt.datetime, None]
    read_at: Union[dt.datetime, None]
    revision: Union[str, None]
    activities: list[ActivityOut]


_NEXT = "The `cursor` of the next page; null when nothing follows."


class ActivityPage(BaseModel):
    """Activities, newest first."""

    items: list[ActivityOut]
    next: Annotated[Union[str, None], Field(description=_NEXT)]


class FeedPage(BaseModel):
    """Items in the order of the feed: groups of one that aggregates, else activities."""

    items: list[Union[GroupOut, ActivityOut]]
    next: Annotated[Union[str, None], Field(description=_NEXT)]
    shown: Annotated[
        Union[str, None],
        Field(
            description="Stands for this page in a stream; null unless it is the first page of a feed that publishes changes."
        ),
    ]


class NotificationPage(BaseModel):
    """Groups of notifications, newest first."""

    items: list[GroupOut]
    next: Annotated[Union[str, None], Field(description=_NEXT)]
    revision: Annotated[
        Union[str, None], Field(description="All that had arrived when the page was read, for `until` of a mark.")
    ]


class ActorPage(BaseModel):
    """Ids of those who did what a group shows."""

    items: list[Union[int, str]]
    next: Annotated[Union[str, None], Field(description=_NEXT)]


class CountsOut(BaseModel):
    """How many notifications are new."""

    unseen: int
    unread: int
    seq: Annotated[int, Field(description="The number of the latest change.")]


class EventOut(BaseModel):
    """One server-sent event of a stream."""

    event: Annotated[str, Field(description="`counts`, or `new:` and the name of a feed.")]
    data: Annotated[
        str, Field(description="As JSON: the counts, or `new`, how many items a page does not show, and `seq`.")
    ]
    id: Annotated[str, Field(description="To be sent as `Last-Event-ID`.")]


class FanoutStatusOut(BaseModel):
    """How far a fan-out is."""

    id: str
    op: str
    finished: bool
    cancelled: bool
    planned: Annotated[int, Field(description="Chunks planned so far.")]
    done: Annotated[int, Field(description="Chunks done.")]
    reached: Annotated[int, Field(description="Users whose feeds were written.")]
    seconds: Annotated[float, Field(description="From the request to the end, or until now.")]
    retried: int
    failed: int
    skipped: Annotated[int, Field(description="Invalid ids that methods of the app returned.")]
    dead: Annotated[str, Field(description="Id of the dead letter that it became; else empty.")]
    error: Annotated[str, Field(description="The last error; else empty.")]


class CancelledOut(BaseModel):
    """Whether there was work that had not begun."""

    cancelled: bool


class ManagerOut(BaseModel):
    """What a manager declares."""

    name: str
    feeds: list[str]
    notifications: Annotated[bool, Field(description="Whether it has a notification feed.")]
    activities: Annotated[bool, Field(description="Whether it keeps what each user did.")]


class ServiceOut(BaseModel):
    """What the service knows."""

    version: str
    managers: list[ManagerOut]
    verbs: list[VerbOut]


class HealthOut(BaseModel):
    """Whether the service can do its work."""

    ok: bool
    storage: bool
    broker: bool


class ProblemOut(BaseModel):
    """Why a request was not carried out (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: Annotated[str, Field(description="What is wrong, and what to do.")]
    error: Annotated[str, Field(description="The name of the error.")]
    errors: Annotated[
        list[dict[str, Any]], Field(description="Where the request is wrong: `where` and `reason` of each place.")
    ] = []


# -- parts of paths, and queries

_PATH_ID = (
    'Percent-encode what is no letter, digit or hyphen, slashes too. Digits are a number: 5 and "5" are one user.'
)

Manager = Annotated[str, Path(description="The name of a manager.", min_length=1, max_length=MAX_ID_LENGTH)]
User = Annotated[
    str, Path(description=f"The id of a user. {_PATH_ID}", min_length=1, max_length=MAX_ID_LENGTH, pattern=_NO_CONTROLS)
]
Thing = Annotated[
    str, Path(description=f"An id. {_PATH_ID}", min_length=1, max_length=MAX_ID_LENGTH, pattern=_NO_CONTROLS)
]
Feed = Annotated[str, Path(description="The name of a feed in `feed_classes`.", min_length=1, max_length=MAX_ID_LENGTH)]
Group = Annotated[str, Path(description="The name of a group.", min_length=1, max_length=MAX_TEXT)]
Activity = Annotated[
    str, Path(description="The id of an activity: 32 hexadecimal digits.", pattern=r"^[0-9a-fA-F]{32}$")
]
Fanout = Annotated[str, Path(description="The id of a fan-out.", min_length=1, max_length=MAX_TEXT)]
Limit = Annotated[int, Query(description="Items of the page, at most.", ge=1, le=MOST_ITEMS)]
ActorLimit = Annotated[int, Query(description="Ids of the page, at most.", ge=1, le=MOST_ACTORS)]
Cursor = Annotated[Union[str, None], Query(description="`next` of the page before, unchanged.", max_length=MAX_TEXT)]
