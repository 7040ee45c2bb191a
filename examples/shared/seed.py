"""What people have done before anybody looks: ``python -m examples.shared.seed``, once for a database."""

from __future__ import annotations

from examples.shared import site, store


def seed() -> None:
    """Have people do what ``seed.json`` says, unless there are posts already."""
    if store.has_posts():
        return
    for post in store.SEED["posts"]:
        number = site.share(post["author"], post["text"], post["link"])["id"]
        for person in post["likes"]:
            site.like(person, number)
        for person, text in post["comments"]:
            site.comment(person, number, text)


if __name__ == "__main__":
    seed()
