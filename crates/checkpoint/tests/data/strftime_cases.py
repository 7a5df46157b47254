"""Formats of `strftime_now`, and what Python makes of them."""

import datetime
import os
import time

DIRECTIVES = "aAbBcCdDeFfgGhHIjklmMnpPrRsStTuUVwWxXyYzZ%" + "EOQqNviJKL!é"
FORMATS = ["%" + letter for letter in DIRECTIVES] + [
    "", "%", "100%", "%%Y", "%Y-%m-%d", "%-d %B %Y", "%d %b %Y", "%I:%M %p", "%A, %-I:%M:%S.%f", "%_d|%-m|%^a|%^c|%3d|%010Y",
    "%Ey %OH %EQ", "%-f", "é%dü", "%+", "%:z",
]  # fmt: skip
TIMES = [datetime.datetime(2026, 3, 4, 5, 6, 7, 89), datetime.datetime(1999, 12, 31, 23, 59, 59, 999999), datetime.datetime(2024, 2, 29, 0, 0)]


def strftime_cases():
    os.environ["TZ"] = "UTC"
    time.tzset()
    return [{"time": t.isoformat(), "format": f, "expected": t.strftime(f)} for t in TIMES for f in FORMATS]
