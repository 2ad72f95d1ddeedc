{% set names = columns | join(", ") %}
INSERT INTO flight_monitor ({{ names }})
VALUES ({% for column in columns %}%({{ column }})s{{ ", " if not loop.last }}{% endfor %})
ON CONFLICT (month, version) DO UPDATE SET
    ({{ names }}) = ROW ({% for column in columns %}excluded.{{ column }}{{ ", " if not loop.last }}{% endfor %})
