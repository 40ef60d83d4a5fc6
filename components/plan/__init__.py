"""The component Plan, and the name of the file that it writes."""

FILE = "plan.json"
