"""The example site on Django: a project as ``startproject`` makes it, with the app ``orchard``."""
