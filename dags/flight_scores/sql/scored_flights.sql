-- The scored flights of a day, with what the model knew about them.
SELECT {{ columns | join(", ") }}, probability
FROM flight_scores
JOIN flight_features USING ({{ key | join(", ") }})
WHERE day = %(day)s AND version = %(version)s
ORDER BY {{ order | join(", ") }}
