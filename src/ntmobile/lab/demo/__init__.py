"""The demo: two organisations, NATs, and a download that survives two moves."""
