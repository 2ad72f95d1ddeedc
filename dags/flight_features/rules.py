"""The checks of the raw data: which days halt a run, and which only get a warning on the page."""

from ml_common.checks import Check

ORIGINS = ("EWR", "JFK", "LGA")

CHECKS = (
    Check("empty", "flights", 0, "has no flights", halts=True),
    Check("unknown_origins", "flights", 0, "has {unknown_origins} flights of an {reasons}", halts=True),
    Check(
        "rejected_flights",
        "flights",
        0.05,
        "has {rejected_flights} of {flights} flights that cannot be used ({reasons})",
        halts=True,
    ),
    Check(
        "missing_hours",
        "expected_hours",
        0.1,
        "lacks {missing_hours} of {expected_hours} hours of weather",
        halts=False,
    ),
    Check(
        "missing_gusts",
        "weather_hours",
        0.75,
        "lacks the wind gust in {missing_gusts} of {weather_hours} hours",
        halts=False,
    ),
    Check("cancelled", "flights", 0.1, "has {cancelled} cancelled flights of {flights}", halts=False),
    Check(
        "unknown_planes",
        "flights",
        0.25,
        "has {unknown_planes} of {flights} flights with an unknown plane",
        halts=False,
    ),
)
