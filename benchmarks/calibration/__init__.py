"""How often the judge is wrong, measured: false alarms, false all-clears and power, beside rules in use elsewhere."""
