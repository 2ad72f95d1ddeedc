"""The columns of the feature table, as a model reads them."""

# What identifies a flight.
KEY = ("day", "carrier", "flight", "scheduled_departure")
DETAILS = ("origin", "destination", "tail_number")
# Known before departure. The shares are those of late flights in the seven days before the partition's day.
FEATURES = (
    "minute_of_day",
    "day_of_week",
    "distance",
    "flights_in_hour",
    "temperature",
    "humidity",
    "wind_speed",
    "wind_gust",
    "precipitation",
    "pressure",
    "visibility",
    "plane_age",
    "plane_seats",
    "late_share_carrier",
    "late_share_route",
    "late_share_origin",
)
# At least 30 minutes late, or never arrived.
TARGET = "late"
COLUMNS = (*KEY, *DETAILS, *FEATURES, TARGET)
