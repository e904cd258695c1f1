"""When crontabs fire around a change of the clock, by Python's own time zones.

A line fires at the first minute at which the wall clock of its zone shows the written time or a later one, and once
for each written time. This walks minute by minute and knows nothing of Revolve.

    oracle.py change ZONE gap|repeat YEAR       {"at_ms", "before", "after"}: the first such change of the year, with the
                                                wall clock just before it and at it; midnight of 15 June without one
    oracle.py fires ZONE FROM_MS TO_MS CRON…    for each line, the instants in the half-open range
"""

import json
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def wall(zone, instant):
    return instant.astimezone(zone).replace(tzinfo=None)


def millis(instant):
    return (instant - EPOCH) // timedelta(milliseconds=1)


def change(zone, kind, year):
    instant = datetime(year, 1, 1, tzinfo=timezone.utc)
    while instant.year == year:
        before = instant.astimezone(zone).utcoffset()
        following = instant + 15 * MINUTE
        after = following.astimezone(zone).utcoffset()
        if (kind == "gap" and after > before) or (kind == "repeat" and after < before):
            return following
        instant = following
    return datetime(year, 6, 15, tzinfo=zone).astimezone(timezone.utc)


def matches(field, value):
    if field == "*":
        return True
    if field.startswith("*/"):
        return value % int(field[2:]) == 0
    return value in [int(part) for part in field.split(",")]


def is_written(line, shown):
    minute, hour, day, month, weekday = line.split()
    assert (day, month, weekday) == ("*", "*", "*"), line
    return matches(minute, shown.minute) and matches(hour, shown.hour)


def fires(zone, start, end, line):
    # A day earlier, so that times which the clock shows again are known to have been shown.
    instant = (start - timedelta(days=1)).replace(second=0, microsecond=0)
    shown_last = wall(zone, instant - MINUTE)
    found = []
    while instant < end:
        shown = wall(zone, instant)
        passed = []
        while shown_last < shown:
            shown_last += MINUTE
            passed.append(shown_last)
        if instant >= start and any(is_written(line, time) for time in passed):
            found.append(millis(instant))
        instant += MINUTE
    return found


def main():
    command, zone = sys.argv[1], ZoneInfo(sys.argv[2])
    if command == "change":
        at = change(zone, sys.argv[3], int(sys.argv[4]))
        shown = {"before": str(wall(zone, at - MINUTE)), "after": str(wall(zone, at))}
        print(json.dumps({"at_ms": millis(at), **shown}))
    else:
        start, end = (EPOCH + timedelta(milliseconds=int(arg)) for arg in sys.argv[3:5])
        print(json.dumps([fires(zone, start, end, line) for line in sys.argv[5:]]))


main()
