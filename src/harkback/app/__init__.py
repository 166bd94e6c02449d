"""A page to look and to teach, and the same over HTTP (extra "app")."""
