{% import "rejections.sql" as rejections %}
-- As in judge_flights.sql. The clock shows an hour twice when daylight saving time ends: the later observation is kept.
{% set measures = ("temp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib") %}
WITH judged AS (
    SELECT
        *,
        CASE
            {{ rejections.of_another_day() }}
            WHEN (
                {% for measure in measures %}
                ({{ measure }} IS NULL OR {{ measure }} ~ '{{ number }}') AND
                {% endfor %}
                hour ~ '{{ integer }}'
            ) IS NOT TRUE THEN 'not a number'
            {{ rejections.unknown_origin() }}
            WHEN row_number() OVER (
                PARTITION BY file_day, origin, hour ORDER BY time_hour DESC, {{ measures | join(", ") }}
            ) > 1 THEN 'duplicate hour'
        END AS reason
    FROM {{ staging }}.raw_weather
),
kept AS (
    INSERT INTO {{ staging }}.weather
    SELECT
        file_day,
        origin,
        hour::integer,
        {% for measure in measures %}
        {{ measure }}::double precision{{ "," if not loop.last }}
        {% endfor %}
    FROM judged
    WHERE reason IS NULL
)
{{ rejections.count(staging, 'weather') }}
