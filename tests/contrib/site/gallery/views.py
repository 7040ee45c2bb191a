"""Pages."""

from django.shortcuts import render


def home(request):
    """A page with a badge."""
    return render(request, "gallery/home.html")
