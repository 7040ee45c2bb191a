"""Activities and groups in words."""

from unittest import mock

from django.contrib.auth import get_user_model
from django.template import Context, Template
from django.utils.translation import gettext_lazy, override

from feedmill import Activity, AggregatedActivity
from feedmill.contrib.django import hydrate, phrases
from feedmill.errors import ArgumentError, DeclarationError
from feedmill.verbs import Add, Love
from gallery.feeds import Like, Post
from gallery.models import Picture
from gallery.tests.base import SiteTestCase

User = get_user_model()
LINK = '<a href="/pictures/{}/?a=1&amp;b=2">Sea &amp; &lt;sky&gt;</a>'


def rendered(text, **values):
    """What a template shows."""
    return Template("{% load feedmill %}" + text).render(Context(values))


class SentenceTests(SiteTestCase):
    """``activity_sentence``."""

    def group(self, *actors, verb=Love, **counts):
        """Those did that to the picture."""
        return AggregatedActivity("g", [Activity(each, verb, self.picture) for each in actors], **counts)

    def test_how_many_are_named(self):
        """Two, and one more in place of "1 other"; the rest is counted, also if the group does not hold them."""
        more = [User.objects.create(username=f"u{n}") for n in range(4)]
        for actors, counts, words in (
            ([self.ann], {}, "ann"),
            ([self.ann, self.bob], {}, "bob and ann"),
            ([self.ann, self.bob, self.cleo], {}, "cleo, bob and ann"),
            ([*more, self.ann], {}, "ann, u3 and 3 others"),
            ([self.ann, self.bob], {"actor_count": 3}, "bob, ann and 1 other"),
            ([self.ann], {"actor_count": 9}, "ann and 8 others"),
        ):
            self.assertEqual(phrases.as_text(self.group(*actors, **counts)), f"{words} loved Sea & <sky>")
        group = self.group(*more, self.ann)
        self.assertEqual(phrases.as_text(group, names=1), "ann and 4 others loved Sea & <sky>")
        self.assertEqual(phrases.as_text(group, names=4), "ann, u3, u2, u1 and u0 loved Sea & <sky>")
        for names in (0, "2", True):
            with self.assertRaisesRegex(ArgumentError, "names is"):
                phrases.as_text(group, names=names)

    def test_html(self):
        """Names are escaped, and linked where they have a page; with autoescape off there is neither."""
        self.ann.username = "<b>ann</b>"
        group, link = self.group(self.ann), LINK.format(self.picture.pk)
        self.assertEqual(rendered("{% activity_sentence g %}", g=group), f"&lt;b&gt;ann&lt;/b&gt; loved {link}")
        self.assertEqual(
            rendered("{% autoescape off %}{% activity_sentence g %}{% endautoescape %}", g=group),
            "<b>ann</b> loved Sea & <sky>",
        )
        several = AggregatedActivity("g", [Activity(self.bob, Add, Picture(pk=n, title=f"<{n}>")) for n in (1, 2)])
        shown = rendered("{% activity_sentence g names=1 as words %}{{ words }}", g=several)
        self.assertEqual(
            shown,
            'bob added <a href="/pictures/2/?a=1&amp;b=2">&lt;2&gt;</a> and <a href="/pictures/1/?a=1&amp;b=2">&lt;1&gt;</a>',
        )

    def test_the_sentence_of_the_verb(self):
        """In the language of the reader, with the plural of the number of people; of an activity alone, too."""
        self.likes(self.bob)
        picture = str(self.picture)
        for language, one, two in (
            ("en", "bob likes your photo", "cleo and bob like your photo"),
            ("de", "bob mag dein Foto", "cleo und bob mögen dein Foto"),
        ):
            with override(language):
                self.assertEqual(phrases.as_text(self.group(self.bob, verb=Like)), f"{one} {picture}")
                self.assertEqual(phrases.as_text(self.group(self.bob, self.cleo, verb=Like)), f"{two} {picture}")
                self.assertEqual(phrases.as_text(Activity(self.bob, Like, self.picture)), f"{one} {picture}")
                self.assertEqual(
                    phrases.as_html(Activity(self.bob, Like, self.picture)), f"{one} {LINK.format(self.picture.pk)}"
                )
        for language, words in (("fr", "ann et 8 autres"), ("es", "ann y 8 más"), ("de", "ann und 8 weitere")):
            with override(language):
                self.assertEqual(phrases.as_text(self.group(self.ann, actor_count=9)), f"{words} loved {picture}")

    def test_what_a_sentence_may_name(self):
        """Actors, objects, the target, and numbers; anything else is an error that lists them."""
        activity = Activity(self.ann, Post, self.picture, self.bob)
        for sentence, words in (
            ("%(actor)s %(object)s %(target)s %(activity_count)d %(object_count)d 5%%", "ann Sea & <sky> bob 1 1 5%"),
            (gettext_lazy("%(actors)s!"), "ann!"),
        ):
            with mock.patch.object(Post, "sentence", sentence):
                self.assertEqual(phrases.as_text(activity), words)
        for sentence in ("%(actr)s", "%s %s", "5% of", "%(actors)d"):
            with (
                mock.patch.object(Post, "sentence", sentence),
                self.assertRaisesRegex(DeclarationError, r"%\(actors\)s"),
            ):
                phrases.as_text(activity)

    def test_ids_and_nothing(self):
        """What is not hydrated is named by its key; a group that shows nothing says nothing."""
        self.assertEqual(phrases.as_text(Activity("ann", Love, "picture:5")), "ann loved 5")
        self.assertEqual(phrases.as_html(Activity("<ann>", Love, "picture:<5>")), "&lt;ann&gt; loved &lt;5&gt;")
        self.assertEqual(phrases.as_html(AggregatedActivity("g", [])), "")
        with self.assertRaisesRegex(ArgumentError, "a sentence is made of an activity or a group"):
            phrases.as_text(self.ann)

    def test_a_hydrated_page(self):
        """As a page does it: no more queries than those of hydrate."""
        self.likes(self.bob, self.cleo)
        from gallery.feeds import manager

        with self.assertNumQueries(2):
            groups = hydrate(manager.get_notification_feed(self.ann)[:])
            shown = rendered("{% for g in groups %}{% activity_sentence g %}{% endfor %}", groups=groups)
        self.assertEqual(shown, f"cleo and bob like your photo {LINK.format(self.picture.pk)}")
