"""The search for a better network than the solved head, or better settings of a head."""
