{% import "rejections.sql" as rejections %}
-- Give each raw row a reason to reject it, or none. Keep the rows without a reason, and count the others by reason.
WITH judged AS (
    SELECT
        *,
        CASE
            {{ rejections.of_another_day() }}
            WHEN (
                {% for column in ("flight", "distance", "hour", "minute") %}
                {{ column }} ~ '{{ integer }}' AND
                {% endfor %}
                (arr_delay IS NULL OR arr_delay ~ '{{ integer }}')
            ) IS NOT TRUE THEN 'not a number'
            WHEN hour::integer NOT BETWEEN 0 AND 23 OR minute::integer NOT BETWEEN 0 AND 59 THEN 'not a time'
            WHEN carrier IS NULL OR dest IS NULL THEN 'no carrier or destination'
            {{ rejections.unknown_origin() }}
            WHEN row_number() OVER (
                PARTITION BY file_day, carrier, flight, hour, minute ORDER BY origin, dest, tailnum, dep_time, arr_delay
            ) > 1 THEN 'duplicate flight'
        END AS reason
    FROM {{ staging }}.raw_flights
),
kept AS (
    INSERT INTO {{ staging }}.flights
    SELECT
        file_day,
        carrier,
        flight::integer,
        file_day + make_interval(hours => hour::integer, mins => minute::integer),
        origin,
        dest,
        tailnum,
        distance::integer,
        hour::integer,
        dep_time IS NULL,
        -- At least 30 minutes late, or never arrived.
        arr_delay IS NULL OR arr_delay::integer >= 30
    FROM judged
    WHERE reason IS NULL
)
{{ rejections.count(staging, 'flights') }}
