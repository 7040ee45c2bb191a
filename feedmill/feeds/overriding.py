"""What an app may not change of a feed, and what to do instead: no method of it, and nothing on an instance.

A fan-out writes hundreds of feeds at once, without an object for each, and readers of pages, badges and subscriptions make feeds of their
own. So what a feed is, its class says.
"""

from __future__ import annotations

import inspect
from typing import Any

from feedmill.errors import DeclarationError
from feedmill.overrides import is_method, parameters_of

#: What to do instead of overriding any other method.
CONFIGURED = "feeds are configured by class attributes; give yours another name"
_FOR_YOUR_OWN_WORK = (
    "fan-outs write many feeds at once, without an object for each; for your own work override Manager.add_activity and"
    " Manager.remove_activity, or give yours another name"
)
_FOR_READERS = (
    "what may come into a feed is said by accepts() of the manager, what is read by filter(), what is shown of an activity by"
    " activity_class; or give yours another name"
)
_FOR_COUNTS = "counts are stored and published by the write that changes them; hear of them with subscribe()"
#: What to do instead of overriding a method, by its name.
INSTEAD_OF_OVERRIDING = {
    name: advice
    for names, advice in {
        "add add_many remove remove_many add_many_aggregated remove_many_aggregated deliver trim delete remove_members mark"
        " mark_all insert_activity insert_activities remove_activity": _FOR_YOUR_OWN_WORK,
        "__getitem__ __iter__ __len__ __contains__ read page count filter order_by limit_activities scan total contains index_of hydrate resolve"
        " unseen unread find_group actors groups_of": _FOR_READERS,
        "publish_count denormalize_count get_denormalized_count get_denormalized_counts set_denormalized_count count_unseen"
        " count_unread": _FOR_COUNTS,
        "key_of keys_of key_attributes": "set key_format",
        "count_key_of count_keys_of": "set count_format",
        "lock_name": "set lock_format",
        "channel": "set pubsub_main_channel",
        "get_timeline_storage_options": "set key_format, max_length and timeline_serializer",
        "timeline": "set timeline_storage_class",
        "activities": "set activity_storage_class",
        "bodies": "set activity_serializer",
        "serializer": "set timeline_serializer",
        "get_aggregator": "set aggregator_class",
        "group_name_of": "write get_group() of an aggregator, and set aggregator_class",
    }.items()
    for name in names.split()
}
#: The attributes of an instance that are made of a class attribute.
_FORMATS = {"key": "key_format", "count_key": "count_format", "lock_key": "lock_format"}


def instead_of_setting(cls: type, name: str) -> str:
    """What to do instead of setting *name* of a feed of *cls*."""
    if name in _FORMATS:
        return f"the class spells it, which others ask, too; set {_FORMATS[name]} of a class of its own"
    if name == "user_id":
        return f"make another feed: {cls.__name__}(user_id)"
    if is_method(getattr(cls, name, None)):
        return "fan-outs and other feeds would not know of it; a test can patch the class"
    return f"fan-outs and other feeds would not know of it; declare class Another({cls.__name__}) with {name} = …"


def check_constructor(cls: Any) -> None:
    """Refuse a feed class whose instances cannot be made of the id of a user alone; a DeclarationError."""
    try:
        inspect.signature(cls).bind("user")
    except TypeError:
        raise DeclarationError(
            f"{cls.__name__}.__init__{parameters_of(cls.__init__)} needs more than a user id, and feeds are made as"
            f" {cls.__name__}(user_id); tell feeds apart by classes with a key_format each, or by the id, such as"
            f' {cls.__name__}(f"{{user_id}}:{{board}}")'
        ) from None
