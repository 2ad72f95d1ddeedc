-- The features of the requested days, from the raw data of these days and the seven days before each.
{% set groups = {"carrier": "carrier", "route": "origin, destination", "origin": "origin"} %}
WITH
{% for name, columns in groups.items() %}
{{ name }}_history AS (
    SELECT
        day,
        {{ columns }},
        sum(sum(late::integer)) OVER earlier::double precision / sum(count(*)) OVER earlier AS late_share
    FROM {{ staging }}.flights
    GROUP BY day, {{ columns }}
    WINDOW earlier AS (
        PARTITION BY {{ columns }} ORDER BY day
        RANGE BETWEEN '{{ history_days }} days' PRECEDING AND '1 day' PRECEDING
    )
){{ "," if not loop.last }}
{% endfor %}
INSERT INTO {{ staging }}.features ({{ columns | join(", ") }})
SELECT
    flights.day,
    flights.carrier,
    flights.flight,
    flights.scheduled_departure,
    flights.origin,
    flights.destination,
    flights.tail_number,
    extract(hour FROM flights.scheduled_departure) * 60 + extract(minute FROM flights.scheduled_departure),
    extract(isodow FROM flights.day),
    flights.distance,
    count(*) OVER (PARTITION BY flights.day, flights.origin, flights.hour),
    weather.temperature,
    weather.humidity,
    weather.wind_speed,
    weather.wind_gust,
    weather.precipitation,
    weather.pressure,
    weather.visibility,
    extract(year FROM flights.day) - planes.year,
    planes.seats,
    carrier_history.late_share,
    route_history.late_share,
    origin_history.late_share,
    flights.late
FROM {{ staging }}.flights
LEFT JOIN {{ staging }}.weather USING (day, origin, hour)
LEFT JOIN {{ staging }}.planes USING (tail_number)
{% for name, columns in groups.items() %}
JOIN {{ name }}_history USING (day, {{ columns }})
{% endfor %}
WHERE day = ANY (%(days)s)
