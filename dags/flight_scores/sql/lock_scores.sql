-- Writers wait for each other. After that, all statements see the same features, also if a day is published again.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
LOCK TABLE flight_scores IN SHARE ROW EXCLUSIVE MODE;
