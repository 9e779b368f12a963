"""Provers that lie, each a program that speaks the real protocol: `python -m tests.provers.replayed`.

They compute with torch where there is torch, as in the container, and with numpy elsewhere.
"""
