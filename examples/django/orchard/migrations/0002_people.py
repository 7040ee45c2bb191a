"""The people whom the page lets visitors choose. Ann may use the admin."""

from django.contrib.auth.hashers import make_password
from django.db import migrations
from orchard.seed import SEED


def add_people(apps, schema_editor):
    """Nobody has a password."""
    user, follow = apps.get_model("auth", "User"), apps.get_model("orchard", "Follow")
    people = {}
    for username, name in SEED["people"].items():
        first, _, last = name.partition(" ")
        people[username] = user.objects.create(
            username=username, first_name=first, last_name=last, password=make_password(None)
        )
    user.objects.filter(username="ann").update(is_staff=True, is_superuser=True)
    for one, target in SEED["follows"]:
        follow.objects.create(user=people[one], target=people[target])


class Migration(migrations.Migration):
    dependencies = [("orchard", "0001_initial"), ("auth", "0012_alter_user_first_name_max_length")]
    operations = [migrations.RunPython(add_people, migrations.RunPython.noop)]
