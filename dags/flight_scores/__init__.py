"""Score the flights of a day with the champion."""
