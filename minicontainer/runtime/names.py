"""Names for containers that were given none: a virtue and a person of computing's history.

Layer: runtime.
"""

from __future__ import annotations

import os

VIRTUES = (
    "able bold brave bright busy calm careful cheerful clear clever crisp curious daring eager earnest fair fearless"
    " fine frank gentle graceful happy helpful honest humble jolly keen kind lively loyal lucid merry modest neat"
    " nimble noble patient playful polite proud quick quiet ready robust serene sharp silent sincere smart steady"
    " sturdy subtle sunny swift tidy tranquil vivid warm wise witty"
).split()

PEOPLE = (
    "allen anning babbage backus bardeen bartik blackburn boole borg brooks cerf clarke codd conway cray curie daemen"
    " dahl dijkstra easley eckert engelbart estrin euler feinler floyd franklin gauss goldberg gray hamilton hamming"
    " hennessy hoare holberton hopper huffman johnson kahn kalman karp kay keller kernighan kilby knuth lamarr lamport"
    " lampson leibniz liskov lovelace mccarthy meitner milner minsky naur neumann newell noether nygaard patterson"
    " perlis perlman ritchie rivest sammet shannon stroustrup sutherland tarjan thompson torvalds turing wiles wilkes"
    " wing wirth yao zuse"
).split()


def random_name() -> str:
    """Such as `quiet_hopper`; one of some five thousand, so the caller tries again where it is taken."""
    virtue, person = (int.from_bytes(os.urandom(4), "big") for _ in range(2))
    return f"{VIRTUES[virtue % len(VIRTUES)]}_{PEOPLE[person % len(PEOPLE)]}"
