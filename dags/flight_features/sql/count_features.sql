-- What the checks of the features compare, and the missing values of each feature: one row per requested day.
WITH kept AS (
    SELECT day, count(*) AS flights
    FROM {{ staging }}.flights
    WHERE day = ANY (%(days)s)
    GROUP BY day
),
built AS (
    SELECT
        day,
        count(*) AS rows,
        count(*) FILTER (WHERE late) AS late,
        count(*) FILTER (WHERE least({{ shares | join(", ") }}) < 0 OR greatest({{ shares | join(", ") }}) > 1)
            AS impossible_shares,
        jsonb_build_object(
            {% for feature in features %}
            '{{ feature }}', count(*) FILTER (WHERE {{ feature }} IS NULL){{ "," if not loop.last }}
            {% endfor %}
        ) AS nulls
    FROM {{ staging }}.features
    GROUP BY day
)
SELECT
    day,
    kept.flights AS kept_flights,
    coalesce(built.rows, 0) AS rows,
    abs(kept.flights - coalesce(built.rows, 0)) AS difference,
    coalesce(built.late, 0) AS late,
    coalesce(built.impossible_shares, 0) AS impossible_shares,
    built.nulls
FROM kept
LEFT JOIN built USING (day)
ORDER BY day
