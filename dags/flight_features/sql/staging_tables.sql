-- The tables of one run. `raw_` tables hold the files as text, because a wrong value must not end the loading of a file.
CREATE SCHEMA IF NOT EXISTS {{ staging }};

{% for table, columns in raw.items() %}
CREATE UNLOGGED TABLE IF NOT EXISTS {{ staging }}.raw_{{ table }} (
    file_day date,
    {% for column in columns %}
    {{ column }} text{{ "," if not loop.last }}
    {% endfor %}
);
{% endfor %}

CREATE UNLOGGED TABLE IF NOT EXISTS {{ staging }}.rejected (
    source text,
    day date,
    reason text,
    rows integer
);

CREATE UNLOGGED TABLE IF NOT EXISTS {{ staging }}.warnings (
    check_name text,
    day date,
    sentence text
);

CREATE UNLOGGED TABLE IF NOT EXISTS {{ staging }}.flights (
    day date,
    carrier text,
    flight integer,
    scheduled_departure timestamp,
    origin text,
    destination text,
    tail_number text,
    distance integer,
    hour integer,
    cancelled boolean,
    late boolean
);

CREATE UNLOGGED TABLE IF NOT EXISTS {{ staging }}.weather (
    day date,
    origin text,
    hour integer,
    temperature double precision,
    humidity double precision,
    wind_speed double precision,
    wind_gust double precision,
    precipitation double precision,
    pressure double precision,
    visibility double precision
);

CREATE UNLOGGED TABLE IF NOT EXISTS {{ staging }}.planes (
    tail_number text,
    year integer,
    seats integer
);

CREATE UNLOGGED TABLE IF NOT EXISTS {{ staging }}.features (LIKE flight_features);
-- Not unique: a check reports duplicates.
CREATE INDEX IF NOT EXISTS feature_keys ON {{ staging }}.features ({{ key | join(", ") }});

-- The planner expects few rows of the joins before these, and would read each table once for every flight.
CREATE INDEX IF NOT EXISTS weather_hours ON {{ staging }}.weather (day, origin, hour);
CREATE INDEX IF NOT EXISTS plane_tail_numbers ON {{ staging }}.planes (tail_number);
